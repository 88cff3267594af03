"""A burst of wallet payments, from the loss of the broker to the last payment."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import redis
from django.conf import settings

from benchmarks.support import worker
from benchmarks.support.counterparts import Counterparts
from benchmarks.support.wallets.due import create_due
from benchmarks.support.wallets.usage import committed, cpu_seconds
from benchmarks.support.worker import Worker
from lightning.models import NwcPayment
from lightning.tasks import resolve_payments, run_nwc_payment

#: Seconds to wait for all payments.
TIMEOUT = 600.0
_POLL = 0.1
#: Seconds between two sweeps, as in production.
_SWEEP_EVERY = 60


@dataclass(frozen=True)
class Burst:
    """Measurements of workers; memory of the largest in megabytes.

    CPU times are in seconds: of all workers, and of the counterparts.
    """

    payments: int
    seconds: float
    relay_connections: int
    database_connections: int
    memory: float
    cpu: float = 0.0
    counterparts_cpu: float = 0.0
    commits: int = 0
    #: Descriptions of the payments that went wrong.
    faults: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Payments per second."""
        return self.payments / self.seconds


def measure(
    counterparts: Counterparts,
    env: Mapping[str, str],
    *,
    payments: int,
    wallet_seconds: float,
    log: Path,
    workers: int = 1,
    one_by_one: bool = False,
) -> Burst:
    """Measure workers making payments, each from another tenant's wallet.

    A wallet takes `wallet_seconds` to pay. One by one: in a single thread, with one
    message for each payment.
    """
    due = create_due(counterparts, payments, wallet_seconds)
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        broker.flushdb()
    before = counterparts.connections()
    with _running(workers, env, log, threads=1 if one_by_one else None) as running:
        # Each connects to our wallet's relay as soon as it takes tasks.
        _watch_until(
            running, until=lambda: counterparts.connections() >= before + workers
        )
        commits, pids = committed(), [each.pid for each in running]
        cpu, other = cpu_seconds(*pids), cpu_seconds(counterparts.pid)
        started = time.perf_counter()
        _enqueue(due, one_by_one)
        _watch_until(running, until=_is_done(due), swept=not one_by_one)
        return Burst(
            payments=payments,
            seconds=time.perf_counter() - started,
            relay_connections=counterparts.connections() - before,
            database_connections=sum(each.database_connections for each in running),
            memory=max(each.memory for each in running),
            cpu=cpu_seconds(*pids) - cpu,
            counterparts_cpu=cpu_seconds(counterparts.pid) - other,
            commits=committed() - commits,
            faults=tuple(_find_faults(counterparts, due)),
        )


@contextmanager
def _running(
    number: int, env: Mapping[str, str], log: Path, threads: int | None
) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                worker.running(env, log=log, name=name, threads=threads)
            )
            for name in (f"network{i}" for i in range(number))
        ]


def _enqueue(due: Mapping[str, int], one_by_one: bool) -> None:
    """Send the messages as the sweep does, or one for each payment."""
    if not one_by_one:
        resolve_payments()
        return
    for payment_id in due.values():
        run_nwc_payment.delay(payment_id)


def _is_done(due: Mapping[str, int]) -> Callable[[], bool]:
    first, last = min(due.values()), max(due.values())
    pending = NwcPayment.objects.pending().filter(pk__range=(first, last))
    return lambda: not pending.exists()


def _watch_until(
    running: Sequence[Worker], *, until: Callable[[], bool], swept: bool = False
) -> None:
    """Wait; `swept` as in production, for attempts that found no room."""
    started, next_sweep = time.monotonic(), _SWEEP_EVERY
    for number in count():
        passed = time.monotonic() - started
        if until() or passed > TIMEOUT:
            break
        if swept and passed > next_sweep:
            resolve_payments()
            next_sweep += _SWEEP_EVERY
        if number % 10 == 0:  # costs time of the database
            for each in running:
                each.watch()
        time.sleep(_POLL)


def _find_faults(counterparts: Counterparts, due: Mapping[str, int]) -> list[str]:
    """Describe each payment that was not paid exactly once."""
    rows = NwcPayment.objects.select_related("invoice").in_bulk(list(due.values()))
    debits = counterparts.debits(list(due))
    faults = []
    for (name, payment_id), amounts in zip(due.items(), debits, strict=True):
        payment = rows[payment_id]
        if payment.state != NwcPayment.State.PAID:
            faults.append(f"{name}: {payment.state} {payment.code}")
        if amounts != [payment.invoice.amount_msat]:
            faults.append(f"{name}: debited {amounts}")
    return faults
