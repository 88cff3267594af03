"""Measures how fast the network worker pays many invoices by tenants' wallets.

    python -m benchmarks.wallet_payments [--quick]

Each wallet belongs to another tenant and takes a second to pay, or longer if this
machine is busy; all share a relay, and run with it in one process. The workers run
production's command, on their own PostgreSQL and Valkey. The broker has lost all
messages, and a sweep enqueues all payments at once. The result is compared with the
same worker that makes one payment after another, and with the least that a payment
takes on this machine: a signature, an encryption, a commit on disk.

Exits with 1 if a payment fails or is made twice, if a worker is not 25 times as fast as
one payment after another, or if more payments open more connections to the relay.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.support import counterparts
from benchmarks.support.counterparts import Counterparts
from benchmarks.support.installation import installed
from benchmarks.support.results import Results
from benchmarks.support.wallets import physical

if TYPE_CHECKING:
    from benchmarks.support.wallets.burst import Burst

    Measure = Callable[..., Burst]

#: The minimum speedup over one payment after another.
MIN_SPEEDUP = 25
#: Seconds that each wallet takes to pay, at least and at most.
MIN_WALLET_SECONDS, MAX_WALLET_SECONDS = 1.0, 4.0
#: What a wallet takes, compared with our own work for a payment: this much more. Else
#: the work, of which a busy machine does less at once, would limit the speedup. Twice,
#: since the machine may get busier between two measurements.
WAITING_PER_WORK = 2 * MIN_SPEEDUP
#: Payments that are due at once, by the number of worker processes.
QUICK = {1: (150,), 2: (150,)}
FULL = {1: (2_000, 10_000), 2: (2_000, 10_000), 4: (2_000, 10_000)}


def main() -> int:
    """Measure and print; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer payments")
    quick = parser.parse_args().quick
    results = Results("wallet_payments", quick=quick)
    with tempfile.TemporaryDirectory(prefix="caravel-bench-") as directory:
        var = Path(directory)
        log = var / "worker.log"
        with system(var) as parties:
            compare(parties, log, results)
        status = results.finish()
        if status:
            lines = log.read_text(errors="replace").splitlines()[-30:]
            print("\n--- last lines of the workers", *lines, sep="\n", file=sys.stderr)
    return status


@contextmanager
def system(var: Path) -> Iterator[Counterparts]:
    """Run everything but the workers, and configure Django in this process."""
    with (
        counterparts.running() as parties,
        installed(var, parties.environment, durable=True),
    ):
        yield parties


def compare(parties: Counterparts, log: Path, results: Results) -> None:
    """Measure one payment after another, then all at once."""
    # Imports models: possible only after django.setup().
    burst = import_module("benchmarks.support.wallets.burst")
    statements = import_module("benchmarks.support.wallets.statements")
    measured = partial(burst.measure, parties, os.environ, log=log)
    least = add_least(results, log.parent)
    number = 3 if results.quick else 15
    work = measured(payments=number, wallet_seconds=0.0, one_by_one=True)
    waiting = max(MIN_WALLET_SECONDS, WAITING_PER_WORK / work.rate)
    seconds = min(waiting, MAX_WALLET_SECONDS)
    results.add("wallet_seconds", "Each wallet takes", seconds, "s")
    single = measured(payments=number, wallet_seconds=seconds, one_by_one=True)
    results.add("one_by_one", "One after another", single.rate, "payments/s")
    trips = statements.round_trips(parties)
    results.add("round_trips", "Round trips to PostgreSQL per payment", trips)
    rates: dict[str, list[tuple[float, float]]] = {}
    for workers, numbers in (QUICK if results.quick else FULL).items():
        for payments in numbers:
            at_once = measured(
                payments=payments, wallet_seconds=seconds, workers=workers
            )
            add_burst(results, f"{payments}_{workers}", workers, at_once, single)
            points = rates.setdefault(f"{payments:,} due", [])
            points.append((workers, at_once.rate))
            if workers == 1:
                share = at_once.rate * least
                key, label = f"share_{payments}", "Share of the physical limit"
                results.add(key, f"{label}, {payments:,} due", 100 * share, "%")
    for name, points in rates.items():
        results.plot("Payments per second, by worker processes", name, points)


def add_least(results: Results, directory: Path) -> float:
    """Record the least that a payment takes; return it in seconds."""
    signing = physical.signing_seconds()
    encryption = physical.encryption_seconds()
    commit = physical.commit_seconds(directory)
    results.add("schnorr", "Schnorr signature", signing * 1e6, "us")
    results.add("encryption", "ECDH and encryption", encryption * 1e6, "us")
    results.add("commit", "Commit on disk", commit * 1e6, "us")
    least = signing + encryption + commit
    results.add("limit", "Physical limit, one after another", 1 / least, "payments/s")
    return least


def add_burst(
    results: Results, key: str, workers: int, burst: "Burst", single: "Burst"
) -> None:
    """Record the measurements of a burst, with their limits."""
    name = f"{burst.payments:,} due, {workers} worker(s)"
    per_worker = burst.rate / workers / single.rate
    # Two workers on a busy machine have less than one core each.
    required = MIN_SPEEDUP if workers == 1 else None
    results.add(f"rate_{key}", f"{name}: speed", burst.rate, "payments/s")
    results.add(
        f"speedup_{key}",
        f"{name}: each against one by one",
        per_worker,
        "times",
        at_least=required,
    )
    cpu, theirs = burst.cpu / burst.payments, burst.counterparts_cpu / burst.payments
    results.add(f"cpu_{key}", f"{name}: CPU per payment", 1_000 * cpu, "ms")
    results.add(f"wallets_cpu_{key}", f"{name}: the wallets' CPU", 1_000 * theirs, "ms")
    results.add(f"memory_{key}", f"{name}: memory of a worker", burst.memory, "MB")
    commits = burst.commits / burst.payments
    results.add(f"commits_{key}", f"{name}: transactions per payment", commits)
    results.add(
        f"connections_{key}",
        f"{name}: connections to the relay",
        burst.relay_connections,
        at_most=workers * single.relay_connections,
    )
    faults = "; ".join(burst.faults[:10])
    results.add(
        f"faults_{key}", f"{name}: wrong {faults}".strip(), len(burst.faults), at_most=0
    )


if __name__ == "__main__":
    sys.exit(main())
