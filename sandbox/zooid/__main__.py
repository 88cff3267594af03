"""`python -m sandbox.zooid`: zooid as a separate process."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from sandbox.clock import follow_from_environment
from sandbox.common import command
from sandbox.common.nostr import pubkey_of
from sandbox.zooid.relays.instances import Panic
from sandbox.zooid.server import running_zooid
from sandbox.zooid.zooid import Zooid

#: The exit status of a Go program that panics.
PANIC_STATUS = 2


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status."""
    # Clients sign with the time of the system, which may be months ahead.
    follow_from_environment()
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.zooid", description=__doc__
    )
    add_arguments(parser)
    return serve(parser.parse_args(arguments))


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """Declare the command-line options."""
    file = "JSON file that stores the relays; their events are in a file beside it"
    keys = (
        "comma-separated hex public keys that may manage relays"
        " (default: that of ROBOT_SECRET in the environment)"
    )
    add = parser.add_argument
    add("--zooid-port", type=int, default=12114, help="0: a free port")
    add("--relays", type=Path, metavar="FILE", help=file)
    add("--whitelist", default="", help=keys)


def serve(options: argparse.Namespace, *, explain: bool = False) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status.

    With `explain`, also print how to use it.
    """
    managers = _managers(options)
    running = running_zooid(
        whitelist=managers,
        port=options.zooid_port,
        state=options.relays,
        on_panic=_exit,
    )
    explanation = partial(_explanation, managers, options)
    try:
        return command.serve("zooid", running, explanation if explain else None)
    except Panic as panic:
        print(f"panic: {panic}", file=sys.stderr)
        return PANIC_STATUS


def _exit(reason: str) -> None:
    print(f"panic: {reason}", file=sys.stderr, flush=True)
    # At once, from any thread.
    os._exit(PANIC_STATUS)


def _managers(options: argparse.Namespace) -> list[str]:
    """Return the keys of the whitelist, else the public key of ROBOT_SECRET."""
    keys = [key.strip() for key in options.whitelist.split(",") if key.strip()]
    robot = os.environ.get("ROBOT_SECRET")
    return [pubkey_of(robot)] if robot and not keys else keys


def _explanation(managers: list[str], options: argparse.Namespace, zooid: Zooid) -> str:
    url = zooid.url
    return f"""
  page      {url}/
  relay     {url}/   with the Host of a relay: NIP-11, NIP-86 and its WebSocket
  API       {url}/relay/ID   (requests are signed, NIP-98)
  control   {url}/_sandbox/relays
  managers  {", ".join(managers) or "nobody"}
  state     {options.relays or "in memory, lost at exit"}

  curl {url}/_sandbox/relays/ID/members -d '{{"members": ["npub1…"]}}'

Ctrl-C stops it."""


if __name__ == "__main__":
    sys.exit(main())
