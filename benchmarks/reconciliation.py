"""Measures how fast all subscriptions are compared with the relays.

    python -m benchmarks.reconciliation [--quick]

A sandbox Stripe answers after 120 ms. For 1 % of the tenants it has another quantity
than they have relays. Production's worker reconciles, until all are in sync; then
again, while nothing differs. It makes at most 100 requests a second, as at the real
Stripe. The seed's way, one tenant after the other with one GET and two queries, is
measured on a sample in the same minutes, and its time for all is computed from that.

For the memory, `manage.py reconcile` compares up to 200,000 tenants with a server that
only lists subscriptions, after the same latency.

Exits with 1 if a tenant that differs is not found, if another one is synced, if more
requests are needed than N / 90 + 3 × those that differ, if 10,000 tenants are
reconciled less than 50 times faster than by the seed's way, or if 200,000 need 64 MB
more than 1,000. `--quick` measures 1,000 tenants.
"""

import argparse
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from benchmarks.support.installation import installed
from benchmarks.support.reconciliation import limits
from benchmarks.support.results import Results

ENVIRONMENT = {
    "STRIPE_SECRET_KEY": "sk_test_benchmark",
    "STRIPE_WEBHOOK_SECRET": "whsec_benchmark",
    "STRIPE_MAX_REQUESTS_PER_SECOND": str(limits.RATE),
}


def main() -> int:
    """Measure and print; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only 1,000 tenants")
    quick = parser.parse_args().quick
    results = Results("reconciliation", quick=quick)
    with tempfile.TemporaryDirectory(prefix="caravel-bench-") as directory:
        var = Path(directory)
        with installed(var, ENVIRONMENT):
            # Imports models: possible only after django.setup().
            benchmark = import_module("benchmarks.support.reconciliation.benchmark")
            measured = benchmark.Benchmark(results, var)
            measured.run(limits.SIZES[:1] if quick else limits.SIZES)
    return results.finish()


if __name__ == "__main__":
    sys.exit(main())
