"""Measures how many of Stripe's webhooks are stored, and how fast they are processed.

    python -m benchmarks.webhooks [--quick]

The intake is compared with a floor, a Django view that only verifies, parses and
inserts, and with dj-stripe's view, in an environment of its own. All three run on
production's server, with its processes and threads, and use one PostgreSQL. They take
deliveries in turns, over connections that are kept; no worker runs meanwhile. The
events are the sandbox Stripe's.

Then a storm arrives while production's worker runs: events without a handler, and a
smaller number of events about subscriptions and invoices, which are read again from
the sandbox Stripe.

Exits with 1 if a delivery is refused or an event is not stored and processed, if the
rate is too far below the floor's or too near dj-stripe's, or if the 99th percentile of
the waits is too far above the floor's. `--quick` measures less, with wider limits, and
leaves out dj-stripe if its environment is missing.
"""

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.support.installation import installed
from benchmarks.support.results import Results
from benchmarks.support.server import Server, running
from benchmarks.support.webhooks.deliveries import SECRET, request

if TYPE_CHECKING:
    from benchmarks.support.webhooks.candidates import Candidate
    from benchmarks.support.webhooks.drain import Drained

#: Turns of each server, and deliveries of each turn.
TURNS, DELIVERIES = 10, 1_000
QUICK_TURNS, QUICK_DELIVERIES = 2, 200
#: Events of the storm without and with a handler.
STORM, HANDLED = 50_000, 1_000
QUICK_STORM, QUICK_HANDLED = 2_000, 60
WARM_UP = 100
PARTS = "benchmarks.support.webhooks"


def main() -> int:
    """Measure and print; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer deliveries")
    results = Results("webhooks", quick=parser.parse_args().quick)
    with (
        tempfile.TemporaryDirectory(prefix="caravel-bench-") as directory,
        running() as stripe,
    ):
        _measure(Path(directory), stripe, results)
    return results.finish()


def _measure(var: Path, stripe: Server, results: Results) -> None:
    environment = {
        "BILLING_SERVED_RELAYS_ONLY": "false",
        "STRIPE_API_BASE": stripe.url,
        "STRIPE_MAX_REQUESTS_PER_SECOND": "10000",
        "STRIPE_WEBHOOK_SECRET": SECRET,
    }
    with installed(var, environment):
        # Import models: possible only after django.setup().
        account = import_module(f"{PARTS}.account")
        templates = account.templates()
        _compare(var, templates, account, results)
        _storm(var, templates, account, stripe, results)


def _compare(var: Path, templates: list[str], account: Any, results: Results) -> None:
    candidates = import_module(f"{PARTS}.candidates")
    has_djstripe = candidates.DJSTRIPE_PYTHON.exists()
    if not has_djstripe and not results.quick:
        sys.exit("First run: make benchmarks/venvs/djstripe/.ready")
    print("Webhooks stored, 16 on their way at once, by two processes\n")
    with ExitStack() as stack:
        names = ("ours", "floor", *(["djstripe"] if has_djstripe else []))
        servers: list[Candidate] = [
            stack.enter_context(getattr(candidates, name)(var / f"{name}.log"))
            for name in names
        ]
        take_turns(servers, templates, account, results.quick)
    _report_intake(servers, results)


def take_turns(
    servers: "list[Candidate]", templates: list[str], account: Any, is_quick: bool
) -> None:
    """Have all servers take deliveries in turns."""
    turns = QUICK_TURNS if is_quick else TURNS
    number = QUICK_DELIVERIES if is_quick else DELIVERIES
    for turn in range(turns + 1):
        for server in servers:
            bodies = account.bodies(templates, number)
            measured = server.measure([request(server.path, body) for body in bodies])
            if turn:  # before the first: imports, connections
                server.turns.append(measured)


def _report_intake(servers: "list[Candidate]", results: Results) -> None:
    for server in servers:
        name, total = server.name, server.total
        key = name.lower().replace("-", "")
        results.add(f"{key}_rate", f"{name}: rate", total.rate, "per second")
        results.add(f"{key}_p99", f"{name}: 99 % within", total.p99 * 1000, "ms")
        results.add(f"{key}_cpu", f"{name}: CPU time each", total.work * 1000, "ms")
    refused = sum(server.total.refused for server in servers)
    results.add("refused", "Responses other than 2xx", refused, at_most=0)
    ours, floor, *others = (server.total for server in servers)
    quick = results.quick
    least, most = (0.5, 4.0) if quick else (0.8, 2.0)
    ratio = ours.rate / floor.rate
    results.add("of_floor", "Our rate, of the floor's", ratio, at_least=least)
    ratio = ours.p99 / floor.p99
    results.add("p99_of_floor", "Our 99 %, of the floor's", ratio, at_most=most)
    for djstripe in others:
        ratio, least = ours.rate / djstripe.rate, 1.2 if quick else 2.0
        results.add("of_djstripe", "Our rate, of dj-stripe's", ratio, at_least=least)


def _storm(
    var: Path, templates: list[str], account: Any, stripe: Server, results: Results
) -> None:
    candidates = import_module(f"{PARTS}.candidates")
    drain = import_module(f"{PARTS}.drain")
    storm, handled = STORM, HANDLED
    if results.quick:
        storm, handled = QUICK_STORM, QUICK_HANDLED
    without = [account.unhandled(template) for template in templates]
    with (
        candidates.ours(var / "web.log") as web,
        drain.worker(var / "worker.log") as worker,
    ):
        pids = {"worker": worker, "sandbox Stripe": stripe.process.pid}
        # Before anything is counted: imports, connections, all four processes.
        drain.drain(web, account.bodies(without, WARM_UP), pids)
        print("\nA storm of events without a handler, while the worker runs\n")
        bodies = account.bodies(without, storm)
        _report_drain("storm", drain.drain(web, bodies, pids), results)
        print("\nEvents about subscriptions and invoices\n")
        bodies = account.bodies(templates, handled)
        _report_drain("handled", drain.drain(web, bodies, pids), results)


def _report_drain(key: str, drained: "Drained", results: Results) -> None:
    intake, number = drained.intake, drained.delivered
    results.add(f"{key}_intake", "Stored meanwhile", intake.rate, "per second")
    results.add(f"{key}_refused", "Responses other than 2xx", intake.refused, at_most=0)
    lost = number - min(drained.stored, drained.processed)
    results.add(f"{key}_lost", f"Lost, of {number:,}", lost, at_most=0)
    results.add(f"{key}_drain", "Processed", drained.rate, "per second")
    for name, seconds in drained.cpu.items():
        each = seconds / number * 1000
        results.add(
            f"{key}_cpu_{name.split()[-1].lower()}",
            f"CPU time each: {name}",
            each,
            "ms",
        )
    cores = f"Cores in use, of {os.cpu_count()}: what bounds it"
    results.add(f"{key}_cores", cores, drained.cores)


if __name__ == "__main__":
    sys.exit(main())
