"""A burst of payments by tenants' wallets, from a lost broker to the last one paid."""

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

from benchmarks import worker
from benchmarks.counterparts import Counterparts
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

#: Seconds that each wallet takes to pay.
WALLET_SECONDS = 1.0
#: Seconds after which what has not happened yet is given up.
PATIENCE = 300.0
_POLL = 0.05
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Burst:
    """What was measured of one worker; its memory is in megabytes."""

    payments: int
    seconds: float
    relay_connections: int
    database_connections: int
    memory: float
    #: What is wrong about the money, in words.
    faults: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Payments a second."""
        return self.payments / self.seconds


def measure(
    counterparts: Counterparts,
    env: Mapping[str, str],
    *,
    payments: int,
    log: Path,
    threads: int | None = None,
) -> Burst:
    """Have one worker make so many payments, each from another tenant's wallet."""
    due = _prepare(counterparts, payments)
    _lose_messages(due)
    before = counterparts.connections()
    with worker.running(env, log=log, threads=threads) as running:
        # It listens to our wallet as soon as it takes tasks.
        _watch(running, until=lambda: counterparts.connections() > before)
        seconds = _pay(due, running)
    return Burst(
        payments=payments,
        seconds=seconds,
        relay_connections=counterparts.connections() - before,
        database_connections=running.database_connections,
        memory=running.memory,
        faults=tuple(_faults(counterparts, due)),
    )


def _prepare(counterparts: Counterparts, number: int) -> dict[str, int]:
    """Return the ids of new payments, by the names of the wallets that are to pay."""
    names = [f"wallet-{next(_numbers)}" for _ in range(number)]
    urls = counterparts.create_wallets(names, seconds=WALLET_SECONDS)
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
    connection.close()  # this thread's own
    return payment.pk


def _lose_messages(due: Mapping[str, int]) -> None:
    """Empty the broker, and let pass the time after which that is noticed."""
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        broker.flushdb()
    long_ago = timezone.now() - timedelta(seconds=settings.ENQUEUED_TIMEOUT)
    NwcPayment.objects.filter(pk__in=due.values()).update(enqueued_at=long_ago)


def _pay(due: Mapping[str, int], running: worker.Worker) -> float:
    """Return the seconds from the sweep until no payment is pending."""
    pending = NwcPayment.objects.pending().filter(pk__in=list(due.values()))
    began = time.perf_counter()
    resolve_payments()
    _watch(running, until=lambda: not pending.exists())
    return time.perf_counter() - began


def _watch(running: worker.Worker, *, until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not until() and time.monotonic() < deadline:
        running.watch()
        time.sleep(_POLL)


def _faults(counterparts: Counterparts, due: Mapping[str, int]) -> list[str]:
    """Say of each payment that is not paid, or not exactly once."""
    rows = NwcPayment.objects.select_related("invoice").in_bulk(list(due.values()))
    debits = counterparts.debits(list(due))
    found = []
    for (name, payment_id), amounts in zip(due.items(), debits, strict=True):
        payment = rows[payment_id]
        if payment.state != NwcPayment.State.PAID:
            found.append(f"{name}: {payment.state} {payment.code}")
        if amounts != [payment.invoice.amount_msat]:
            found.append(f"{name}: debited {amounts}")
    return found
