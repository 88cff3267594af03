"""How many payments by tenants' wallets one worker makes at the same time.

    python -m benchmarks.wallet_payments [--quick]

Each wallet takes a second and is another tenant's; they share a relay. The worker is
production's, on a PostgreSQL and a Valkey of its own. The broker has lost all messages,
and a sweep enqueues the payments at once. The same worker with a single thread, and
fewer payments, is what it is compared with.

Ends with status 1 when a payment fails or is made twice, when the burst is not as many
times faster as promised, or when more payments make more connections to the relay.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import django

from benchmarks import counterparts
from benchmarks.counterparts import Counterparts
from caravel import embedded

if TYPE_CHECKING:
    from benchmarks.burst import Burst

#: How many times faster than one after the other it has to be.
PROMISED = 25
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Measure and print; return 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer payments")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory(prefix="caravel-bench-") as directory:
        log = Path(directory) / "worker.log"
        with system(Path(directory)) as around:
            kept = compare(
                around, log, alone=8 if quick else 15, together=150 if quick else 500
            )
        if not kept:
            lines = log.read_text(errors="replace").splitlines()[-30:]
            print("\n--- the worker's last lines", *lines, sep="\n", file=sys.stderr)
    return 0 if kept else 1


@contextmanager
def system(var: Path) -> Iterator[Counterparts]:
    """Run all but the worker, and make this process a part of it."""
    with (
        embedded.servers(var, durable=False) as servers,
        counterparts.running() as around,
    ):
        os.environ.update(
            around.environment,
            CARAVEL_ENV="test",
            CARAVEL_VAR=str(var),
            DATABASE_URL=servers.database_url,
            DEBUG="false",
            DJANGO_SETTINGS_MODULE="caravel.settings",
            LOG_LEVEL="INFO",
            REDIS_URL=servers.redis_url,
        )
        migrate = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
        subprocess.run(migrate, cwd=ROOT, check=True)
        django.setup()
        yield around


def compare(around: Counterparts, log: Path, *, alone: int, together: int) -> bool:
    """Measure one thread and the whole worker; return whether promises are kept."""
    # Models can be imported only now that there are settings.
    measure = import_module("benchmarks.burst").measure
    print("Payments by wallets that take a second, of one worker process\n")
    single = measure(around, os.environ, payments=alone, threads=1, log=log)
    show("one by one", single)
    burst = measure(around, os.environ, payments=together, log=log)
    show("at once", burst)
    return judge(single, burst)


def show(name: str, burst: "Burst") -> None:
    """Print a line of what was measured."""
    print(
        f"  {name:12}{burst.payments:4} in {burst.seconds:5.1f} s{burst.rate:7.2f} a "
        f"second{burst.relay_connections:4} relay and{burst.database_connections:4} "
        f"database connections{burst.memory:6.0f} MB",
        flush=True,
    )


def judge(single: "Burst", burst: "Burst") -> bool:
    """Print and return whether it is as fast, as thrifty and as right as promised."""
    ratio = burst.rate / single.rate
    fast = ratio >= PROMISED
    thrifty = burst.relay_connections <= single.relay_connections
    faults = [*single.faults, *burst.faults]
    print(
        f"\n{ratio:.1f} times faster, {PROMISED} promised: "
        f"{'reached' if fast else 'NOT REACHED'}"
    )
    print(f"connections to the relay: {'the same' if thrifty else 'THEY GROW'}")
    print(f"paid exactly once: {'; '.join(faults[:10]) or 'each of them'}\n")
    return fast and thrifty and not faults


if __name__ == "__main__":
    sys.exit(main())
