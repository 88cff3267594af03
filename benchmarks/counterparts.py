"""What payments need around them, as one process: a relay, wallets, prices.

It answers lines of JSON on its standard input, until that ends.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sandbox.nostr import SandboxRelay, running_relay
from sandbox.prices.server import running_prices
from sandbox.wallets import Wallets, pays_after, running_wallets

BALANCE_MSAT = 10**9


class Counterparts:
    """The running process, for the one that started it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.environment: dict[str, str] = self._ask("environment")

    def create_wallets(self, names: Sequence[str], *, seconds: float) -> list[str]:
        """Make wallets that pay after so many seconds; return their URLs."""
        urls: list[str] = self._ask("create", list(names), seconds)
        return urls

    def debits(self, names: Sequence[str]) -> list[list[int]]:
        """Return each amount that left each wallet, in millisatoshi."""
        debits: list[list[int]] = self._ask("debits", list(names))
        return debits

    def connections(self) -> int:
        """Return how many connections the relay has accepted so far."""
        return int(self._ask("connections"))

    def _ask(self, question: str, *values: object) -> Any:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([question, *values]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def running() -> Iterator[Counterparts]:
    """Run them for the length of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.counterparts"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Counterparts(process)
        finally:
            process.terminate()


def serve() -> None:
    """Answer until the input ends."""
    with (
        running_relay() as relay,
        running_wallets(relay.url) as wallets,
        running_prices() as prices,
    ):
        environment = {
            "ROBOT_WALLET": wallets.create("platform").url,
            "BTC_PRICE_URLS": ",".join(prices.urls),
            "NWC_ALLOW_PRIVATE_RELAYS": "true",
        }
        for line in sys.stdin:
            question, *values = json.loads(line)
            answer = (
                environment
                if question == "environment"
                else _answer(relay, wallets, question, values)
            )
            print(json.dumps(answer), flush=True)


def _answer(
    relay: SandboxRelay, wallets: Wallets, question: str, values: list[Any]
) -> object:
    match question, values:
        case "create", [names, seconds]:
            made = wallets.create_many(names, balance_msat=BALANCE_MSAT)
            for wallet in made:
                wallet.behaviour = pays_after(seconds)
            return [wallet.url for wallet in made]
        case "debits", [names]:
            return [wallets.ledger.debits(name) for name in names]
        case "connections", []:
            return relay.accepted
    raise ValueError(question)


if __name__ == "__main__":
    serve()
