"""How fast the sandbox Stripe answers, and whether its memory stays what it is.

    python -m benchmarks.sandbox_stripe [--quick]

One server process; the load comes from this one, over loopback HTTP with keep-alive
connections that cost next to nothing themselves. stripe-python is left out: it takes
longer to make objects of an answer than the sandbox takes to give it.

Ends with status 1 when the mix stays below the promised rate, or memory does not stay
flat.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks import server
from benchmarks.account import Account
from benchmarks.server import Server
from sandbox.stripe import request_log
from sandbox.stripe.settings import DEFAULTS

#: Requests a second that the mix has to reach.
PROMISED = 300
CONNECTIONS = 4
#: After so many writes events, answers and logged requests are all that are ever kept.
WARM = max(DEFAULTS.keep_answers, DEFAULTS.keep_events, request_log.MAX_ENTRIES)
#: Resident memory at the end may be so much above that after the first third.
TOLERANCE = 0.05
#: What a created customer may cost for good, in kilobytes.
COST_OF_CUSTOMER = 8.0
#: A round of the mix, with how often each kind comes in it.
MIX = (("retrieve", 8), ("list", 3), ("update", 2), ("create", 1), ("settle", 1))
#: The same without what makes objects: nothing of it may need memory for good.
STEADY = (("retrieve", 5), ("list", 2), ("update", 3))
REQUESTS = {"settle": 2}


class Scale:
    """How much is measured."""

    def __init__(self, *, quick: bool) -> None:
        self.of_each_kind = 200 if quick else 1_000
        self.mix_seconds = 3.0 if quick else 10.0
        self.step = 1_000 if quick else 10_000
        self.steps = 9 if quick else 10
        self.customers = 500 if quick else 5_000


def main() -> int:
    """Measure and print; return 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="in half a minute")
    scale = Scale(quick=parser.parse_args().quick)
    with server.running() as sandbox:
        fast = measure_speed(sandbox, scale)
    with server.running() as sandbox:
        flat = measure_memory(sandbox, scale)
    return 0 if fast and flat else 1


def measure_speed(sandbox: Server, scale: Scale) -> bool:
    """Print the rate of each kind and of the mix; return whether it is enough."""
    print(f"Requests a second over {CONNECTIONS} connections, of one sandbox process\n")
    with accounts(sandbox) as clients:
        rates = {kind: rate_of(clients, kind, scale.of_each_kind) for kind, _ in MIX}
        mix = rate_of_mix(clients, scale.mix_seconds)
    for kind, rate in rates.items():
        print(f"  {kind:10}{rate:8.0f}{rate / rates['retrieve']:8.2f} of retrieve")
    print(f"  {'mix':10}{mix:8.0f}{mix / rates['retrieve']:8.2f} of retrieve")
    reached = mix >= PROMISED
    print(f"\n{PROMISED} a second: {'reached' if reached else 'NOT REACHED'}\n")
    return reached


@contextmanager
def accounts(sandbox: Server) -> Iterator[list[Account]]:
    """Yield an account for each connection."""
    wires = [sandbox.wire() for _ in range(CONNECTIONS)]
    yield [Account(wire, f"client-{number}") for number, wire in enumerate(wires)]
    for wire in wires:
        wire.close()


def rate_of(clients: list[Account], kind: str, times: int) -> float:
    """Return how many requests of a kind are answered a second."""
    each = times // CONNECTIONS
    if kind == "settle":
        at_once(clients, lambda client: repeat(client, "create", each))
    took = at_once(clients, lambda client: repeat(client, kind, each))
    return each * CONNECTIONS * REQUESTS.get(kind, 1) / took


def rate_of_mix(clients: list[Account], seconds: float) -> float:
    """Return how many requests of the mix are answered a second, over some time."""
    answered: list[int] = []
    until = time.perf_counter() + seconds

    def work(client: Account) -> None:
        while time.perf_counter() < until:
            answered.append(play(client, MIX))

    took = at_once(clients, work)
    return sum(answered) / took


def play(client: Account, kinds: tuple[tuple[str, int], ...]) -> int:
    """Send one round; return how many requests it was."""
    for kind, times in kinds:
        repeat(client, kind, times)
    return sum(times * REQUESTS.get(kind, 1) for kind, times in kinds)


def repeat(client: Account, kind: str, times: int) -> None:
    """Send requests of one kind."""
    for _ in range(times):
        getattr(client, kind)()


def at_once(clients: list[Account], work: Callable[[Account], None]) -> float:
    """Let every client do the work; return the seconds until all were done."""
    failures: list[Exception] = []

    def guarded(client: Account) -> None:
        try:
            work(client)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(one,)) for one in clients]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - began


def measure_memory(sandbox: Server, scale: Scale) -> bool:
    """Print resident memory under load; return whether it stays flat."""
    total = scale.step * scale.steps
    print(f"Resident memory over {total:,} requests that create nothing\n")
    with accounts(sandbox) as clients:
        at_once(clients, lambda one: repeat(one, "update", WARM // CONNECTIONS + 1))
        sizes = [sandbox.rss()]
        print(f"  {'warm':>10}{sizes[0]:8.1f} MB")
        for number in range(scale.steps):
            at_once(clients, lambda client: play_requests(client, scale.step))
            sizes.append(sandbox.rss())
            print(f"  {(number + 1) * scale.step:>10,}{sizes[-1]:8.1f} MB", flush=True)
        cost = cost_of_customers(sandbox, clients, scale.customers)
    return judge(sizes, cost)


def play_requests(client: Account, together: int) -> None:
    """Send this client's part of so many steady requests."""
    sent = 0
    while sent < together / CONNECTIONS:
        sent += play(client, STEADY)


def cost_of_customers(sandbox: Server, clients: list[Account], number: int) -> float:
    """Return by how many kilobytes each new customer makes the sandbox grow.

    Others before them have filled what is kept of events and answers with their kind.
    """
    at_once(clients, lambda one: repeat(one, "add_customer", WARM // CONNECTIONS + 1))
    before = sandbox.rss()
    each = number // CONNECTIONS
    at_once(clients, lambda one: repeat(one, "add_customer", each))
    return (sandbox.rss() - before) * 1024 / number


def judge(sizes: list[float], cost: float) -> bool:
    """Print and return whether memory stays flat, but for what is created."""
    growth = sizes[-1] / sizes[len(sizes) // 3] - 1
    flat, bounded = growth <= TOLERANCE, cost <= COST_OF_CUSTOMER
    print(
        f"\nafter the first third {growth:+.1%}, {TOLERANCE:.0%} allowed: "
        f"{'flat' if flat else 'NOT FLAT'}"
    )
    print(
        f"a new customer, whose event and answer replace others: {cost:.1f} kB, "
        f"{COST_OF_CUSTOMER:.0f} allowed: {'bounded' if bounded else 'NOT BOUNDED'}"
    )
    return flat and bounded


if __name__ == "__main__":
    sys.exit(main())
