"""Measures how long one host takes to collect the invoices of a month's first day.

    python -m benchmarks.month_start [--quick | --full]

All subscriptions renew at once, and an hour later Stripe finalizes all invoices. Each
is paid by the wallet of another tenant. One host runs production's commands; Stripe
answers after 120 ms and allows 100 requests per second. Meanwhile tenants use the API.
`--quick` has 40 invoices and only wide limits, since the start of all processes is a
large part of it; `--full` has 10,000, otherwise there are 1,000.

Exits with 1 if an invoice is not collected exactly once, if 10,000 would take more than
an hour at the measured rate, or if 5 % of the API's answers take 300 ms or more.
"""

import argparse
import os
import sys
import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import django

from benchmarks.support.month.processes import environment
from benchmarks.support.results import Results
from sandbox.demo.system import System, run

if TYPE_CHECKING:
    from benchmarks.support.month.month import Month

QUICK, DEFAULT, FULL = 40, 1_000, 10_000
#: Seconds within which 10,000 invoices must be collected.
LIMIT = 3_600.0
API_LIMIT = 0.3
#: Requests per second that Stripe allows.
STRIPE_RATE = 100
#: On a machine that does other things, too.
QUICK_API_LIMIT = 5.0


def main() -> int:
    """Measure and print; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help=f"{QUICK} invoices")
    size.add_argument("--full", action="store_true", help=f"{FULL} invoices")
    options = parser.parse_args()
    number = QUICK if options.quick else FULL if options.full else DEFAULT
    with tempfile.TemporaryDirectory(prefix="caravel-bench-") as directory:
        status = run(Path(directory), partial(_measure, number, options.quick))
        if status:
            _print_logs(Path(directory) / "logs")
    return status


def _measure(number: int, quick: bool, system: System) -> int:
    os.environ.update(environment(system), DJANGO_SETTINGS_MODULE="caravel.settings")
    django.setup()
    # Imports models: possible only after django.setup().
    measure = import_module("benchmarks.support.month.month").measure
    print(f"{number:,} invoices on one host\n", flush=True)
    return _report(measure(system, number, timeout=3 * LIMIT), quick=quick)


def _report(month: "Month", *, quick: bool) -> int:
    results = Results("month_start", quick=quick)
    _add_durations(results, month)
    limit = 1_000 * (QUICK_API_LIMIT if quick else API_LIMIT)
    results.add("api_p50", "API: half of the answers within", month.api_p50, "ms")
    results.add("api_p95", "API: 95 % within", month.api_p95, "ms", at_most=limit)
    _add_costs(results, month)
    _add_growth(results, month)
    results.add("faults", "not collected exactly once", len(month.faults), at_most=0)
    for line in month.faults[:10]:
        print(f"  {line}")
    _print_requests(month)
    return results.finish()


def _add_durations(results: Results, month: "Month") -> None:
    number = month.invoices
    minutes = None if month.invoices == QUICK else LIMIT / 60
    rate = number / month.collected
    results.add("invoices", "invoices finalized at once", number)
    results.add("drafts", "drafts recorded", number / month.drafts, "per second")
    results.add("rate", "invoices collected", rate, "per second")
    hour = FULL / rate / 60
    results.add("hour", f"{FULL:,} invoices collected", hour, "min", at_most=minutes)
    results.add("settled", "everything done after", month.settled, "s")
    results.plot("invoices collected, by time, s", "invoices", month.progress)


def _add_costs(results: Results, month: "Month") -> None:
    number = month.invoices
    requests = sum(month.stripe_requests.values())
    counts = {
        "requests": ("requests to Stripe", requests),
        "transactions": ("database transactions", month.transactions),
        "connections": ("new database connections", month.connections),
    }
    for key, (name, count) in counts.items():
        results.add(key, f"{name}, per invoice", count / number)
    minutes = FULL * requests / number / STRIPE_RATE / 60
    label = f"{FULL:,} invoices, if only Stripe's rate counts"
    results.add("stripe_limit", label, minutes, "min")
    for name, seconds in month.cpu.items():
        label = f"CPU time of {name}, per invoice"
        results.add(f"cpu_{name}", label, 1_000 * seconds / number, "ms")


def _print_requests(month: "Month") -> None:
    """Print the requests to Stripe per invoice, by endpoint and status."""
    for period, counts in (
        ("until the drafts are recorded", month.draft_requests),
        ("from the finalizations on", month.stripe_requests),
    ):
        print(f"\nrequests to Stripe per invoice, {period}")
        for name, count in counts.most_common():
            print(f"  {count / month.invoices:8.3f}  {name}")


def _add_growth(results: Results, month: "Month") -> None:
    number = 1_024 * month.invoices
    tenant = sum(month.tenants_bytes.values()) / number
    results.add("tenant_kb", "PostgreSQL, per tenant", tenant, "kB")
    grown = sum(month.month_bytes.values()) / number
    results.add("month_kb", "PostgreSQL, per tenant-month", grown, "kB")
    for table, size in sorted(month.month_bytes.items()):
        results.add(f"month_kb_{table}", f"of these {table}", size / number, "kB")
    results.add("valkey_kb", "Valkey, per tenant", month.valkey_bytes / number, "kB")


def _print_logs(logs: Path) -> None:
    for log in sorted(logs.glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-15:]
        print(f"\n--- last lines of {log.name}", *lines, sep="\n", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
