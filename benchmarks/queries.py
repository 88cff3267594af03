"""Measures each query that runs in a loop or for a list, at 100,000 tenants.

    python -m benchmarks.queries [--quick] [--write]

PostgreSQL fills a database itself, in the shares of a real installation: 1,000,000
events, 600,000 invoices, 300,000 payments. Then each task of beat's schedule is run,
with one of each task that it enqueues, and each list of the admin and of the API is
requested with each of its filters, orders and searches. PostgreSQL reports the plan of
each statement as it was executed.

Exits with 1 if a statement reads more of a table that grows than it needs, or if a list
takes more than 150 ms of the database's time. `--quick`: a twentieth of the rows,
without the limit of time. `--write` writes the plans to `docs/performance/plans.md`.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.support.installation import installed
from benchmarks.support.results import Results
from caravel.nostr import generate_secret_key

if TYPE_CHECKING:
    from benchmarks.support.large.places import Place

TENANTS = 100_000
#: Milliseconds of the database for one list.
LIMIT = 150.0
#: No server is there: nothing may be sent from here, and each task ends at its first
#: call.
_NOWHERE = {
    name: f"{scheme}://127.0.0.1:9"
    for name, scheme in (
        ("STRIPE_API_BASE", "http"),
        ("ZOOID_API_URL", "http"),
        ("ZOOID_RELAYS_URL", "http"),
        ("ROBOT_OUTBOX_RELAYS", "ws"),
        ("ROBOT_INDEXER_RELAYS", "ws"),
    )
}


def main() -> int:
    """Measure and print; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows")
    parser.add_argument("--write", action="store_true", help="write the plans, too")
    options = parser.parse_args()
    environment = {
        **_NOWHERE,
        "RELAY_DOMAIN": "relays.example",
        "ROBOT_SECRET": generate_secret_key(),
    }
    results = Results("queries", quick=options.quick)
    # Each task reports that no server is there.
    logging.disable(logging.CRITICAL)
    with (
        tempfile.TemporaryDirectory(prefix="caravel-bench-") as directory,
        installed(Path(directory), environment),
    ):
        # Imports models: possible only after django.setup().
        database = import_module("benchmarks.support.large.database")
        report = import_module("benchmarks.support.large.report")
        started = time.monotonic()
        database.fill(TENANTS // 20 if options.quick else TENANTS)
        seconds = time.monotonic() - started
        print(f"Filled in {seconds:.0f} s: {database.sizes_text()}\n", flush=True)
        places = database.run_all(quick=options.quick)
        limits = database.limits(quick=options.quick)
        if options.write:
            report.write(places, limits)
    report.print_faults(places, limits)
    _add_figures(results, places, report.count_faults(places, limits))
    return results.finish()


def _add_figures(results: Results, places: Sequence["Place"], faults: int) -> None:
    lists = [place for place in places if place.kind != "task"]
    slowest = max(lists, key=lambda place: place.milliseconds)
    tasks = [place for place in places if place.kind == "task"]
    statements = {each.shape for place in places for each in place.statements}
    limit = None if results.quick else LIMIT
    results.add("queries_tasks", "tasks run", len(tasks))
    results.add("queries_lists", "lists requested", len(lists))
    results.add("queries_statements", "different statements", len(statements))
    results.add("queries_scans", "that read too much", faults, at_most=0)
    results.add(
        "queries_slowest_list",
        f"slowest list ({slowest.name})",
        slowest.milliseconds,
        "ms",
        at_most=limit,
    )
    for name in ("review_dunning", "check_wallets", "probe_relays", "count_people"):
        milliseconds = next(t.milliseconds for t in tasks if t.name.endswith(name))
        results.add(f"queries_{name}", name, milliseconds, "ms")


if __name__ == "__main__":
    sys.exit(main())
