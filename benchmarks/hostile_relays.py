"""Measures how long a wallet payment takes beside 30 hostile relays.

    python -m benchmarks.hostile_relays [--quick]

A tenant's wallet pays invoices one after the other: alone, and while other tenants'
relays send as much as they can (nested lists, forged events, pings, fragments). Both
are measured in turn, in the same process.

Exits with 1 if a payment beside them takes more than twice as long.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from importlib import import_module
from statistics import median

import django
from django.utils import timezone

from benchmarks.support import counterparts, flooding
from benchmarks.support.results import Results
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.pool import pool_for

MAX_RATIO = 2.0
RELAYS = 30
#: Relays of one tenant that are asked at once.
_AT_ONCE = 5


def main() -> int:
    """Measure and print; return 1 if the limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer payments")
    quick = parser.parse_args().quick
    results = Results("hostile_relays", quick=quick)
    with counterparts.running() as parties:
        os.environ.update(
            parties.environment,
            CARAVEL_ENV="test",
            CARAVEL_QUIET="true",
            DEBUG="true",
            DJANGO_SETTINGS_MODULE="caravel.settings",
            LOG_LEVEL="WARNING",
        )
        django.setup()
        (url,) = parties.create_wallets(["tenant"], seconds=0.0)
        pay = payer(parties.environment["ROBOT_WALLET"], url)
        with flooding.running(RELAYS) as urls:
            compare(results, pay, urls, payments=10 if quick else 40)
    return results.finish()


def payer(own_url: str, url: str) -> Callable[[], None]:
    """Return a function that pays an invoice of our wallet from a tenant's wallet."""
    # Needs django.setup().
    nwc = import_module("lightning.clients.nwc")
    parse = import_module("lightning.clients.nwc_uri").parse_nwc_url
    own = nwc.Wallet(parse(own_url, private_allowed=True), is_ours=True)
    wallet = nwc.Wallet(parse(url, private_allowed=True))

    def pay() -> None:
        issued = own.make_invoice(amount_msat=1_000, description="", expiry=600)
        request = wallet.prepare_payment(
            bolt11=issued.bolt11, expires_at=timezone.now() + timedelta(minutes=2)
        )
        wallet.pay_invoice(request, payment_hash=issued.payment_hash)

    return pay


def compare(
    results: Results, pay: Callable[[], None], urls: Sequence[str], *, payments: int
) -> None:
    """Measure both in turn."""
    alone: list[float] = []
    beside: list[float] = []
    pay()  # connects, and learns what the wallet can do
    for _ in range(3):
        alone += measure(pay, payments)
        with hostile_fetches(urls):
            beside += measure(pay, payments)
    report(results, alone, beside)


def report(results: Results, alone: list[float], beside: list[float]) -> None:
    """Record both, and how much longer a payment takes beside hostile relays."""
    others = f"Beside {RELAYS} hostile relays"
    results.add("alone", "A payment alone, median", 1_000 * median(alone), "ms")
    results.add("beside", f"{others}, median", 1_000 * median(beside), "ms")
    results.add("beside_max", f"{others}, longest", 1_000 * max(beside), "ms")
    ratio = median(beside) / median(alone)
    results.add("ratio", f"{others}, times as long", ratio, at_most=MAX_RATIO)


def measure(pay: Callable[[], None], payments: int) -> list[float]:
    """Return the seconds that each payment takes."""
    seconds = []
    for _ in range(payments):
        started_at = time.perf_counter()
        pay()
        seconds.append(time.perf_counter() - started_at)
    return seconds


@contextmanager
def hostile_fetches(urls: Sequence[str]) -> Iterator[None]:
    """Fetch from all relays again and again, five at once in each thread."""
    stopped = threading.Event()
    with ExitStack() as stack:
        for start in range(0, len(urls), _AT_ONCE):
            batch = urls[start : start + _AT_ONCE]
            thread = threading.Thread(target=fetch_until, args=(stopped, batch))
            thread.start()
            stack.callback(thread.join)
        stack.callback(stopped.set)
        time.sleep(2)  # the first burst is over
        yield


def fetch_until(stopped: threading.Event, urls: Sequence[str]) -> None:
    """Fetch until stopped, like the lookup of a tenant's relay list."""
    endpoints = [Endpoint(url, private_allowed=True) for url in urls]
    filters = [{"authors": [flooding.AUTHOR], "kinds": [1]}]
    while not stopped.is_set():
        with suppress(RelayUnreachable):
            pool_for(endpoints).fetch(endpoints, filters, timeout=2.0)


if __name__ == "__main__":
    sys.exit(main())
