"""Statements of a batch wait for rows in the order of their keys, like all others."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from unittest.mock import Mock

import pytest
from django.db import connection, transaction
from django.utils import timezone

from caravel.tests.support.waiting import wait_until
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import attempts
from lightning.services.attempts import Prepared
from lightning.tests.factories import make_payment_request, tenant_with
from lightning.tests.support.locks import has_waiting_lock
from lightning.tests.support.payments import start_payment

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.usefixtures("own_wallet", "prices"),
]


@pytest.fixture
def due(wallets) -> list[Prepared]:
    """The requests of two attempts, the later one first, also in the table."""
    both = [prepared(wallets.create(name, balance_msat=10**9)) for name in "ab"]
    earlier = NwcPayment.objects.filter(pk=both[0].payment.pk)
    earlier.update(next_attempt_at=timezone.now())  # PostgreSQL writes another row
    return both[::-1]


def prepared(wallet) -> Prepared:
    payment = start_payment(make_payment_request(tenant_with(wallet)))
    return Prepared(payment, Mock(), Mock(id=f"request of {payment.pk}"))


def in_thread(act, *args):
    try:
        with connection.cursor() as cursor:
            # One of the orders in which PostgreSQL may find the rows: the table's.
            cursor.execute("SET enable_indexscan = off; SET enable_bitmapscan = off")
        return act(*args)
    finally:
        connection.close()


def lock(each: Prepared) -> None:
    """Lock an attempt; fails if another transaction holds it."""
    rows = NwcPayment.objects.select_for_update(nowait=True)
    rows.get(pk=each.payment.pk)


def mark_all(due) -> None:
    attempts.mark_sent(due)


def prove_all(due) -> None:
    attempts.record([(each, "00" * 32) for each in due])


@pytest.mark.parametrize(
    ("act", "column"), [(mark_all, "sent_at"), (prove_all, "proven_at")]
)
def test_batch_holds_no_attempt_while_it_waits_for_an_earlier_one(due, act, column):
    """Else a poll that settles both, the earlier one first, would wait in a circle."""
    later, earlier = due

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            lock(earlier)
            outcome = pool.submit(in_thread, act, due)
            wait_until(lambda: has_waiting_lock() or outcome.done())
            lock(later)
        outcome.result()

    assert NwcPayment.objects.exclude(**{column: None}).count() == 2


def test_request_is_not_marked_after_another_worker_has_marked_its_own(due):
    later, earlier = due
    others = replace(earlier, request=Mock(id="request of another worker"))

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            attempts.mark_sent([others])
            outcome = pool.submit(in_thread, attempts.mark_sent, due)
            wait_until(lambda: has_waiting_lock() or outcome.done())
        assert outcome.result() == [later]

    stored = NwcPayment.objects.get(pk=earlier.payment.pk)
    assert stored.request_event_id == others.request.id


def prove_with_short_waits(due) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '50ms'")
    prove_all(due)


def test_locked_attempt_keeps_no_other_proof_from_being_stored(due):
    later, earlier = due

    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        lock(earlier)
        pool.submit(in_thread, prove_with_short_waits, due).result()

    proven = NwcPayment.objects.exclude(proven_at=None)
    assert list(proven) == [later.payment]


def make_due(rows) -> None:
    rows.update_free(next_attempt_at=timezone.now())


def test_locked_invoice_is_not_waited_for_when_others_become_due(due):
    """A settlement of several, which holds it, may wait for the others."""
    later, earlier = due
    rows = LightningInvoice.objects.all()
    rows.update(next_attempt_at=timezone.now() + timedelta(hours=1))

    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        rows.select_for_update().get(pk=earlier.payment.invoice_id)
        pool.submit(in_thread, make_due, rows).result()

    due_now = LightningInvoice.objects.due(timezone.now())
    assert [each.pk for each in due_now] == [later.payment.invoice_id]
