"""The parties around payments in one process: a relay, wallets, prices.

It answers lines of JSON on its standard input, until the input ends.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from caravel.tests.support.waiting import read_line
from sandbox.nostr import SandboxRelay, running_relay
from sandbox.prices.server import running_prices
from sandbox.wallets import Wallets, running_wallets
from sandbox.wallets.behaviour import pays_after

BALANCE_MSAT = 10**9


class Counterparts:
    """The running process, as seen by its parent."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self.environment: dict[str, str] = self._request("environment")

    def create_wallets(self, names: Sequence[str], *, seconds: float) -> list[str]:
        """Create wallets that pay after a delay; return their URLs."""
        urls: list[str] = self._request("create", list(names), seconds)
        return urls

    def issue(
        self, number: int, amount_msat: int, *, expiry: int
    ) -> list[tuple[str, str]]:
        """Have our wallet issue invoices; return their bolt11s and payment hashes."""
        issued = self._request("issue", number, amount_msat, expiry)
        return [(bolt11, payment_hash) for bolt11, payment_hash in issued]

    def debits(self, names: Sequence[str]) -> list[list[int]]:
        """Return the amounts that left each wallet, in msat."""
        debits: list[list[int]] = self._request("debits", list(names))
        return debits

    def connections(self) -> int:
        """Return the number of connections the relay has accepted."""
        return int(self._request("connections"))

    def _request(self, command: str, *values: object) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps([command, *values]) + "\n")
        self._process.stdin.flush()
        return json.loads(read_line(self._process))


@contextmanager
def running() -> Iterator[Counterparts]:
    """Run the process for the length of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.support.counterparts"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Counterparts(process)
        finally:
            process.terminate()


def serve() -> None:
    """Answer commands until the input ends."""
    with (
        running_relay() as relay,
        running_wallets(relay.url) as wallets,
        running_prices() as prices,
    ):
        environment = {
            "ROBOT_WALLET": wallets.create("platform").url,
            "BTC_PRICE_URLS": ",".join(prices.urls),
            "NWC_ALLOW_PRIVATE_RELAYS": "true",
            # This wallet takes any number; the default would be measured instead.
            "ROBOT_WALLET_REQUESTS_PER_MINUTE": "100000",
        }
        for line in sys.stdin:
            command, *values = json.loads(line)
            result = (
                environment
                if command == "environment"
                else _handle(relay, wallets, command, values)
            )
            print(json.dumps(result), flush=True)


def _handle(
    relay: SandboxRelay, wallets: Wallets, command: str, values: list[Any]
) -> object:
    match command, values:
        case "create", [names, seconds]:
            created = wallets.create_many(names, balance_msat=BALANCE_MSAT)
            for wallet in created:
                wallet.behaviour = pays_after(seconds)
            return [wallet.url for wallet in created]
        case "issue", [number, amount_msat, expiry]:
            own = wallets["platform"]
            issued = [own.issue(amount_msat, expiry=expiry) for _ in range(number)]
            return [(invoice.bolt11, invoice.payment_hash) for invoice in issued]
        case "debits", [names]:
            return [wallets.ledger.debits(name) for name in names]
        case "connections", []:
            return relay.accepted
    raise ValueError(command)


if __name__ == "__main__":
    serve()
