"""`python -m sandbox.lightning`: the relay, the wallets and the price sources."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from sandbox.clock import follow_from_environment
from sandbox.common import command
from sandbox.lightning.server import running_lightning
from sandbox.lightning.stack import Lightning


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.lightning", description=__doc__
    )
    add_arguments(parser)
    follow_from_environment()
    return serve(parser.parse_args(arguments))


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare the command-line options.

    The seed of the wallets' keys is not one, since arguments are in the process list:
    it is SANDBOX_SEED in the environment, else that of the state, else random.
    """
    web = "port of the page, the control API and the prices; 0: a free port"
    file = "SQLite file that stores the wallets"
    add = parser.add_argument
    add("--lightning-port", type=int, default=12112, help=web)
    add("--nostr-port", type=int, default=12113, help="port of the relay")
    add("--wallets", type=Path, metavar="FILE", help=file)


def serve(options: argparse.Namespace, *, explain: bool = False) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status.

    With `explain`, also print how to use it.
    """
    running = running_lightning(
        port=options.lightning_port,
        nostr_port=options.nostr_port,
        seed=os.environ.get("SANDBOX_SEED"),
        state=options.wallets,
    )
    explanation = partial(_explanation, options)
    return command.serve("Lightning", running, explanation if explain else None)


def _explanation(options: argparse.Namespace, lightning: Lightning) -> str:
    url, names = lightning.url, ", ".join(wallet.name for wallet in lightning.wallets)
    return f"""
  page      {url}/   (wallets and their addresses, payments, prices, faults)
  control   {url}/_sandbox/state
  relay     {lightning.relay.url}
  wallets   {names}
  state     {options.wallets or "in memory, lost at exit"}

  curl {url}/prices/abacus/usd
  curl {url}/_sandbox/wallets/rich/invoices -d '{{"sats": 21}}'

Ctrl-C stops it."""


if __name__ == "__main__":
    sys.exit(main())
