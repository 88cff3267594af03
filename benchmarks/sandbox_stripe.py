"""Measures the sandbox Stripe: requests per second, and memory growth.

    python -m benchmarks.sandbox_stripe [--quick]

One server process; the load comes from this process, over keep-alive connections on
loopback. stripe-python is not used: building its objects takes longer than the
sandbox takes to answer.

Exits with 1 if the mix is too slow, compared with a server that does nothing and is
measured in the same minute, or if memory grows. So a busy machine changes nothing.
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from benchmarks.support import server
from benchmarks.support.account import Account
from benchmarks.support.results import Results
from benchmarks.support.server import Server
from benchmarks.support.wire import Wire
from caravel.tests.support.waiting import join
from sandbox.stripe.api import request_log
from sandbox.stripe.settings import DEFAULTS

Client = TypeVar("Client", Account, Wire)
#: The minimum rate of the mix, as a share of the rate of a server that does nothing.
MIN_SHARE = 0.04
CONNECTIONS = 4
#: After this many writes the stores of events, responses and requests are full.
WARM_UP_WRITES = max(
    DEFAULTS.keep_answers, DEFAULTS.keep_events, request_log.MAX_ENTRIES
)
#: The maximum growth of resident memory after the first third of the requests.
MAX_GROWTH = 0.05
#: The maximum permanent memory per created customer, in kilobytes.
MAX_CUSTOMER_KB = 8.0
#: A round of the mix: kinds and their numbers.
MIX = (("retrieve", 8), ("list", 3), ("update", 2), ("create", 1), ("settle", 1))
#: A round that creates no objects and so must not need permanent memory.
STEADY = (("retrieve", 5), ("list", 2), ("update", 3))
REQUESTS = {"settle": 2}


class Scale:
    """The amount of work to measure."""

    def __init__(self, *, quick: bool) -> None:
        self.requests_per_kind = 200 if quick else 1_000
        self.mix_seconds = 3.0 if quick else 10.0
        self.bare_seconds = 1.0 if quick else 3.0
        self.step = 1_000 if quick else 10_000
        self.steps = 9 if quick else 10
        self.customers = 500 if quick else 5_000


def main() -> int:
    """Measure and print; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="takes half a minute")
    quick = parser.parse_args().quick
    results, scale = Results("sandbox_stripe", quick=quick), Scale(quick=quick)
    with server.running() as sandbox, server.running_bare() as bare:
        measure_speed(results, sandbox, bare, scale)
    with server.running() as sandbox:
        measure_memory(results, sandbox, scale)
    return results.finish()


def measure_speed(
    results: Results, sandbox: Server, bare: Server, scale: Scale
) -> None:
    """Record the rate of each kind, and of the mix compared with a bare server."""
    print(f"Requests per second over {CONNECTIONS} connections, one sandbox process\n")
    with accounts(sandbox) as clients:
        rates = {
            kind: rate_of(clients, kind, scale.requests_per_kind) for kind, _ in MIX
        }
        before = rate_of_bare(bare, scale.bare_seconds)
        mix = rate_of_mix(clients, scale.mix_seconds)
        after = rate_of_bare(bare, scale.bare_seconds)
    for kind, rate in {**rates, "mix": mix}.items():
        results.add(f"{kind}_rate", f"Requests, {kind}", rate, "per second")
    nothing = (before + after) / 2
    results.add("bare_rate", "A server that does nothing", nothing, "per second")
    share = 100 * mix / nothing
    results.add("share", "The mix, share of it", share, "%", at_least=100 * MIN_SHARE)


@contextmanager
def accounts(sandbox: Server) -> Iterator[list[Account]]:
    """Yield an account for each connection."""
    wires = [sandbox.wire() for _ in range(CONNECTIONS)]
    yield [Account(wire, f"client-{number}") for number, wire in enumerate(wires)]
    for wire in wires:
        wire.close()


def rate_of(clients: list[Account], kind: str, times: int) -> float:
    """Return the requests of a kind per second."""
    each = times // CONNECTIONS
    if kind == "settle":
        run_concurrently(clients, lambda client: repeat(client, "create", each))
    seconds = run_concurrently(clients, lambda client: repeat(client, kind, each))
    return each * CONNECTIONS * REQUESTS.get(kind, 1) / seconds


def rate_of_mix(clients: list[Account], seconds: float) -> float:
    """Return the requests of the mix per second, measured over some time."""
    answered: list[int] = []
    until = time.perf_counter() + seconds

    def work(client: Account) -> None:
        while time.perf_counter() < until:
            answered.append(send_round(client, MIX))

    seconds = run_concurrently(clients, work)
    return sum(answered) / seconds


def rate_of_bare(bare: Server, seconds: float) -> float:
    """Return the requests per second of a server that does nothing."""
    answered: list[int] = []
    wires = [bare.wire() for _ in range(CONNECTIONS)]
    until = time.perf_counter() + seconds

    def work(wire: Wire) -> None:
        while time.perf_counter() < until:
            wire.get("/")
            answered.append(1)

    seconds = run_concurrently(wires, work)
    for wire in wires:
        wire.close()
    return len(answered) / seconds


def send_round(client: Account, kinds: tuple[tuple[str, int], ...]) -> int:
    """Send one round; return the number of requests."""
    for kind, times in kinds:
        repeat(client, kind, times)
    return sum(times * REQUESTS.get(kind, 1) for kind, times in kinds)


def repeat(client: Account, kind: str, times: int) -> None:
    """Send requests of one kind."""
    for _ in range(times):
        getattr(client, kind)()


def run_concurrently(clients: list[Client], work: Callable[[Client], None]) -> float:
    """Run the work with all clients at once; return the seconds it took."""
    failures: list[Exception] = []

    def guarded(client: Client) -> None:
        try:
            work(client)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(client,)) for client in clients]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    join(*threads)
    if failures:
        raise failures[0]
    return time.perf_counter() - started


def measure_memory(results: Results, sandbox: Server, scale: Scale) -> None:
    """Record the growth of resident memory under load."""
    total = scale.step * scale.steps
    print(f"\nResident memory over {total:,} requests that create nothing\n")
    with accounts(sandbox) as clients:
        run_concurrently(
            clients,
            lambda client: repeat(client, "update", WARM_UP_WRITES // CONNECTIONS + 1),
        )
        sizes = [sandbox.rss()]
        print(f"  {'warm':>10}{sizes[0]:8.1f} MB")
        for number in range(scale.steps):
            run_concurrently(
                clients, lambda client: send_steady_requests(client, scale.step)
            )
            sizes.append(sandbox.rss())
            print(f"  {(number + 1) * scale.step:>10,}{sizes[-1]:8.1f} MB", flush=True)
        cost = cost_of_customers(sandbox, clients, scale.customers)
    report_memory(results, sizes, cost)


def report_memory(results: Results, sizes: list[float], cost: float) -> None:
    """Record the growth after the first third, and the memory of a customer."""
    results.add("memory", "Memory at the end of the requests", sizes[-1], "MB")
    growth = 100 * (sizes[-1] / sizes[len(sizes) // 3] - 1)
    label = "Growth after the first third"
    results.add("growth", label, growth, "%", at_most=100 * MAX_GROWTH)
    label = "Memory of each new customer"
    results.add("customer", label, cost, "kB", at_most=MAX_CUSTOMER_KB)


def send_steady_requests(client: Account, total: int) -> None:
    """Send this client's share of the total number of steady requests."""
    count = 0
    while count < total / CONNECTIONS:
        count += send_round(client, STEADY)


def cost_of_customers(sandbox: Server, clients: list[Account], number: int) -> float:
    """Return the memory per new customer, in kilobytes.

    First creates customers until the limited stores of events and idempotent responses
    are full: from then on only customers need more memory.
    """
    run_concurrently(
        clients,
        lambda client: repeat(
            client, "add_customer", WARM_UP_WRITES // CONNECTIONS + 1
        ),
    )
    before = sandbox.rss()
    each = number // CONNECTIONS
    run_concurrently(clients, lambda client: repeat(client, "add_customer", each))
    return (sandbox.rss() - before) * 1024 / number


if __name__ == "__main__":
    sys.exit(main())
