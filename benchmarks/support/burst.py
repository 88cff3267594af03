"""A burst of wallet payments, from the loss of the broker to the last payment."""

import itertools
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import redis
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from benchmarks.support import worker
from benchmarks.support.counterparts import Counterparts
from caravel.nostr import generate_secret_key, pubkey_of
from lightning.models import NwcPayment
from lightning.services.invoices import PaymentRequest
from lightning.services.payments import (
    create_payment,
    issue_for_wallet,
    lock_for_wallet,
)
from lightning.tasks import resolve_payments
from tenants.models import Tenant
from tenants.services.tenants import set_wallet

#: Seconds to wait for all payments.
TIMEOUT = 300.0
_POLL = 0.05
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Burst:
    """Measurements of one worker; memory in megabytes."""

    payments: int
    seconds: float
    relay_connections: int
    database_connections: int
    memory: float
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
    threads: int | None = None,
) -> Burst:
    """Measure one worker making payments, each from another tenant's wallet.

    A wallet takes `wallet_seconds` to pay.
    """
    due = _prepare(counterparts, payments, wallet_seconds)
    _lose_messages(due)
    before = counterparts.connections()
    with worker.running(env, log=log, threads=threads) as running:
        # The worker connects to our wallet's relay as soon as it takes tasks.
        _watch_until(running, until=lambda: counterparts.connections() > before)
        seconds = _pay(due, running)
    return Burst(
        payments=payments,
        seconds=seconds,
        relay_connections=counterparts.connections() - before,
        database_connections=running.database_connections,
        memory=running.memory,
        faults=tuple(_find_faults(counterparts, due)),
    )


def _prepare(
    counterparts: Counterparts, number: int, wallet_seconds: float
) -> dict[str, int]:
    """Create payments; return their ids by the names of the paying wallets."""
    names = [f"wallet-{next(_numbers)}" for _ in range(number)]
    urls = counterparts.create_wallets(names, seconds=wallet_seconds)
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(names, pool.map(_start, names, urls), strict=True))


def _start(name: str, url: str) -> int:
    tenant = Tenant.objects.create(pubkey=pubkey_of(generate_secret_key()))
    set_wallet(pubkey=tenant.pk, nwc_url=url)
    payment_request = PaymentRequest(
        tenant_id=tenant.pk,
        stripe_invoice_id=f"in_{name}",
        amount_cents=1_000,
        currency="usd",
        description=f"Relay of {name}",
    )
    issued = issue_for_wallet(payment_request=payment_request)
    with transaction.atomic():
        lock_for_wallet(payment_request=payment_request)
        payment = create_payment(issued)
    connection.close()  # each thread has its own
    return payment.pk


def _lose_messages(due: Mapping[str, int]) -> None:
    """Empty the broker, and age the payments until the sweep notices."""
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        broker.flushdb()
    long_ago = timezone.now() - timedelta(seconds=settings.ENQUEUED_TIMEOUT)
    NwcPayment.objects.filter(pk__in=due.values()).update(enqueued_at=long_ago)


def _pay(due: Mapping[str, int], running: worker.Worker) -> float:
    """Return the seconds from the sweep until no payment is pending."""
    pending = NwcPayment.objects.pending().filter(pk__in=list(due.values()))
    started = time.perf_counter()
    resolve_payments()
    _watch_until(running, until=lambda: not pending.exists())
    return time.perf_counter() - started


def _watch_until(running: worker.Worker, *, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not until() and time.monotonic() < deadline:
        running.watch()
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
