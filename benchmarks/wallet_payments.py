"""Measures how many wallet payments one worker makes at the same time.

    python -m benchmarks.wallet_payments [--quick]

Each wallet belongs to another tenant and takes a second to pay, or longer if this
machine is busy; all share a relay.
The worker runs production's command, on its own PostgreSQL and Valkey. The broker
has lost all messages, and a sweep enqueues all payments at once. The result is
compared with the same worker with one thread and fewer payments.

Exits with 1 if a payment fails or is made twice, if the speedup is too small, or if
more payments open more connections to the relay.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.support import counterparts
from benchmarks.support.counterparts import Counterparts
from benchmarks.support.installation import installed

if TYPE_CHECKING:
    from benchmarks.support.burst import Burst

#: The minimum speedup over one thread.
MIN_SPEEDUP = 25
#: Seconds that each wallet takes to pay, at least.
MIN_WALLET_SECONDS = 1.0
#: What a wallet takes, compared with our own work for a payment: this much more. Else
#: the work, of which a busy machine does less at once, would limit the speedup. Twice,
#: since the machine may get busier between two measurements.
WAITING_PER_WORK = 2 * MIN_SPEEDUP


def main() -> int:
    """Measure and print; return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer payments")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="caravel-bench-") as directory:
        log = Path(directory) / "worker.log"
        with system(Path(directory)) as parties:
            passed = compare(
                parties,
                log,
                sequential=4 if quick else 15,
                concurrent=150 if quick else 500,
            )
        if not passed:
            lines = log.read_text(errors="replace").splitlines()[-30:]
            print("\n--- last lines of the worker", *lines, sep="\n", file=sys.stderr)
    return 0 if passed else 1


@contextmanager
def system(var: Path) -> Iterator[Counterparts]:
    """Run everything but the worker, and configure Django in this process."""
    with counterparts.running() as parties, installed(var, parties.environment):
        yield parties


def compare(
    parties: Counterparts, log: Path, *, sequential: int, concurrent: int
) -> bool:
    """Measure one thread and the whole worker; return whether the limits are met."""
    # Imports models: possible only after django.setup().
    measure = import_module("benchmarks.support.burst").measure
    measured = partial(measure, parties, os.environ, log=log)
    work = measured(payments=sequential, threads=1, wallet_seconds=0.0)
    seconds = max(MIN_WALLET_SECONDS, WAITING_PER_WORK / work.rate)
    print(f"Payments of one worker process, each wallet takes {seconds:.1f} s\n")
    single = measured(payments=sequential, threads=1, wallet_seconds=seconds)
    show("one by one", single)
    burst = measured(payments=concurrent, wallet_seconds=seconds)
    show("at once", burst)
    return report(single, burst)


def show(name: str, burst: "Burst") -> None:
    """Print a line of measurements."""
    print(
        f"  {name:12}{burst.payments:4} in {burst.seconds:5.1f} s{burst.rate:7.2f} per "
        f"second{burst.relay_connections:4} relay and{burst.database_connections:4} "
        f"database connections{burst.memory:6.0f} MB",
        flush=True,
    )


def report(single: "Burst", burst: "Burst") -> bool:
    """Print and return whether speed, connections and payments are as required."""
    ratio = burst.rate / single.rate
    fast = ratio >= MIN_SPEEDUP
    shares_connections = burst.relay_connections <= single.relay_connections
    faults = [*single.faults, *burst.faults]
    print(
        f"\n{ratio:.1f} times faster, {MIN_SPEEDUP} required: "
        f"{'reached' if fast else 'NOT REACHED'}"
    )
    relay_connections = "the same" if shares_connections else "MORE"
    print(f"connections to the relay: {relay_connections}")
    print(f"paid exactly once: {'; '.join(faults[:10]) or 'all'}\n")
    return fast and shares_connections and not faults


if __name__ == "__main__":
    sys.exit(main())
