"""Deletion of suspended relays, and what keeps them."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from billing.models import CardAttempt, Credit, StripeCursor, StripeWrite
from billing.services.credits.posting import record_credit
from billing.services.dunning.suspension import Review, review_tenant
from billing.tests.deletions.conftest import NOW, read_events
from billing.tests.factories import StripeEventFactory
from billing.tests.support.threads import in_threads
from caravel.tests.support.celery_tasks import run_each
from caravel.tests.support.waiting import join, wait_until
from lightning.tests.factories import make_invoice
from relays.models import RelayExport
from relays.services.end_of_life.dates import Step
from relays.services.end_of_life.review import deletion_due, due_relays, review_relay
from relays.tasks import review_suspended_relay, review_suspended_relays
from relays.tests.factories import RelayFactory
from tenants.models import Activity, Notice, Tenant

pytestmark = pytest.mark.django_db


def test_relay_is_deleted_on_its_date_and_not_before(relay):
    assert relay.review(59.99) == Step.WAIT
    assert relay.row.deleted_at is None

    assert relay.review(60) == Step.DELETE

    row = relay.row
    assert (row.status, row.deleted_at) == ("inactive", NOW + timedelta(days=60))
    assert (row.delinquent_since, row.deletion_at) == (None, None)
    assert Activity.objects.latest("pk").type == "delete_relay"
    assert RelayFactory(subdomain="nest").pk  # the name is free


def test_owner_is_told_of_the_deletion_once(relay):
    relay.review(60)
    relay.review(60.1)

    text = Notice.objects.get(kind="relay_deleted").text
    assert "since 30 November 2026 because of an unpaid invoice" in text


def test_paid_relay_is_kept_before_billing_has_reviewed_the_tenant(relay):
    relay.pay()

    assert relay.review(60) == Step.WAIT
    assert review_tenant(tenant_id=relay.tenant.pk) == Review.REACTIVATED
    assert (relay.row.status, relay.row.deletion_at) == ("active", None)


def test_relay_of_an_exempt_tenant_is_kept(relay):
    Tenant.objects.update(dunning_exempt=True)

    assert relay.review(60) == Step.WAIT


def start_card_payment(relay):
    CardAttempt.objects.create(
        collection=relay.invoice,
        payment_method="pm_1",
        amount_cents=500,
        idempotency_key="key",
    )


def start_bank_payment(relay):
    relay.change_invoice(intent_status="processing", intent_since=timezone.now())


def start_challenge(relay):
    since = NOW + timedelta(days=59.99)
    relay.change_invoice(intent_status="requires_action", intent_since=since)


def show_bolt11(relay):
    make_invoice(relay.tenant, "ab" * 32, stripe_invoice_id=relay.invoice.pk)


def receive_lightning(relay):
    make_invoice(
        relay.tenant,
        "ab" * 32,
        stripe_invoice_id=relay.invoice.pk,
        state="settled",
        settled_at=timezone.now(),
    )


def start_credit_note(relay):
    StripeWrite.objects.create(
        tenant=relay.tenant,
        kind=StripeWrite.Kind.CREATE_CREDIT_NOTE,
        subject=relay.invoice.pk,
        generation=1,
        idempotency_key="key",
        params={},
    )


def owe_credit(relay):
    record_credit(
        tenant_id=relay.tenant.pk,
        collection_id=relay.invoice.pk,
        reason=Credit.Reason.SURPLUS,
        source="source",
        amount_cents=500,
        currency="usd",
    )


def receive_event(relay):
    StripeEventFactory(object={"id": "in_1", "customer": "cus_nest"})


def export(relay):
    RelayExport.objects.create(relay=relay.row)


@pytest.mark.parametrize(
    "begin",
    [
        start_card_payment,
        start_bank_payment,
        start_challenge,
        show_bolt11,
        receive_lightning,
        start_credit_note,
        owe_credit,
        receive_event,
        export,
    ],
    ids=lambda begin: begin.__name__,
)
def test_relay_is_kept_meanwhile(relay, begin):
    relay.clock.move_to(NOW + timedelta(days=59.999))
    begin(relay)

    assert relay.review(60) == Step.WAIT
    assert relay.row.deleted_at is None
    assert due_relays(now=timezone.now()) == [relay.pk]


def test_relay_is_deleted_once_the_payment_has_failed(relay):
    start_card_payment(relay)
    relay.review(60)
    CardAttempt.objects.update(state="refused", resolved_at=timezone.now())

    assert relay.review(60.1) == Step.DELETE


def test_payment_that_takes_longer_than_a_day_postpones_the_deletion(relay):
    start_card_payment(relay)
    relay.review(60)
    CardAttempt.objects.update(state="refused", resolved_at=timezone.now())

    assert relay.review(61) == Step.POSTPONE
    assert relay.row.deletion_at == NOW + timedelta(days=91)


def test_events_of_other_customers_do_not_keep_a_relay(relay):
    StripeEventFactory(object={"id": "in_1", "customer": "cus_nest2"})
    StripeEventFactory(
        object={"id": "in_2", "customer": "cus_nest"},
        status="processed",
        processed_at=timezone.now(),
    )

    assert relay.review(60) == Step.DELETE


def test_relay_is_kept_while_a_dispute_may_be_won(relay):
    dispute = {"id": "dp_1", "charge": "ch_1", "status": "won"}
    event = StripeEventFactory(type="charge.dispute.closed", object=dispute)
    relay.change_invoice(dispute_debt_cents=500)
    assert relay.review(60) == Step.WAIT

    # Somebody else's.
    relay.change_invoice(dispute_debt_cents=0)

    assert relay.review(60.1) == Step.DELETE
    event.refresh_from_db()
    assert event.status == "received"


@pytest.mark.parametrize("days", [None, 60], ids=["never", "until the date"])
def test_relay_is_kept_until_later_events_are_read(relay, days):
    """A payment of the last minute, made at Stripe, may not be known yet."""
    StripeCursor.objects.all().delete()
    if days:
        read_until = NOW + timedelta(days=days)
        StripeCursor.objects.create(pk="events", read_until=read_until)
    relay.clock.move_to(NOW + timedelta(days=60, hours=1))

    step = review_relay(relay_id=relay.pk, now=timezone.now())

    assert step == Step.WAIT


def test_error_of_a_receiver_keeps_the_relay(relay):
    def fail(**kwargs):
        raise RuntimeError("broken")

    deletion_due.connect(fail)
    try:
        with pytest.raises(RuntimeError):
            relay.review(60)
    finally:
        deletion_due.disconnect(fail)

    assert relay.row.deleted_at is None


def test_beat_has_each_due_relay_reviewed(relay, monkeypatch):
    run = run_each(review_suspended_relay)
    monkeypatch.setattr(review_suspended_relay, "delay_many", run)
    relay.review(59)

    review_suspended_relays()
    assert relay.row.deleted_at is None
    relay.clock.move_to(NOW + timedelta(days=60, minutes=1))
    read_events()
    review_suspended_relays()

    assert relay.row.deleted_at == timezone.now()


# --- at the same moment


def has_waiting_lock() -> bool:
    with connection.cursor() as cursor:
        # pg_locks, since pg_stat_activity does not change within a transaction.
        cursor.execute("select 1 from pg_locks where not granted")
        return cursor.fetchone() is not None


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_payment_that_is_booked_while_the_deletion_waits_keeps_the_relay(relay):
    relay.clock.move_to(NOW + timedelta(days=60))
    read_events()
    errors = []
    deletion = threading.Thread(
        target=lambda: errors.extend(
            in_threads(1, lambda: review_suspended_relay(str(relay.pk)))
        )
    )

    with transaction.atomic():
        Tenant.objects.lock(relay.tenant.pk)
        deletion.start()
        wait_until(has_waiting_lock)
        relay.pay()
        review_tenant(tenant_id=relay.tenant.pk)
    join(deletion)

    assert errors == []
    assert (relay.row.status, relay.row.deleted_at) == ("active", None)


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_relay_is_deleted_once_by_many_workers(relay):
    relay.clock.move_to(NOW + timedelta(days=60))
    read_events()

    assert in_threads(4, lambda: review_suspended_relay(str(relay.pk))) == []

    assert Activity.objects.filter(type="delete_relay").count() == 1
    assert Notice.objects.filter(kind="relay_deleted").count() == 1


def test_payment_after_the_deletion_does_not_bring_the_relay_back(relay):
    relay.review(60)
    relay.pay()

    review_tenant(tenant_id=relay.tenant.pk)

    assert relay.row.deleted_at is not None
