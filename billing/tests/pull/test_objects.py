"""Discovering invoices of which no event has told."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.clients.stripe.types import read_invoice
from billing.models import InvoiceCollection, StripeCursor, StripeEvent
from billing.services.collection.drafts import record_new
from billing.services.invoices.records import record_invoice
from billing.services.pull import objects
from billing.services.pull.events import pull_events
from billing.services.pull.objects import discover_objects
from billing.tests.support.subscriptions import (
    create_subscription_at_stripe,
    finalize_drafts,
    pay_all_invoices,
    sync,
    sync_until_in_sync,
)
from sandbox.stripe.objects.subscriptions import cancel

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def recorded():
    return set(InvoiceCollection.objects.values_list("pk", flat=True))


def invoices_at_stripe(sandbox, **filters):
    return {each.id for each in sandbox.client().v1.invoices.list(filters).data}


def enqueued():
    rows = InvoiceCollection.objects.filter(enqueued_at__isnull=False)
    return set(rows.values_list("pk", flat=True))


def forget_messages():
    InvoiceCollection.objects.update(enqueued_at=None)


def test_two_invoices_of_a_gap_longer_than_stripe_keeps_events_are_recorded(
    sandbox, subscriber, clock
):
    pay_all_invoices(sandbox)
    pull_events()
    discover_objects()
    clock.move(days=65)
    assert len(invoices_at_stripe(sandbox)) == 3

    pull_events()
    discover_objects()

    _, second, third = InvoiceCollection.objects.order_by("created_at")
    invoices = StripeEvent.objects.filter(type="invoice.created")
    assert second.pk not in {event.data["object"]["id"] for event in invoices}
    assert recorded() == invoices_at_stripe(sandbox)
    assert {second.pk, third.pk} <= enqueued()
    assert [second.stripe_status, third.stripe_status] == ["open", "open"]


def test_sync_records_all_invoices_when_the_latest_is_unknown(
    sandbox, subscriber, clock
):
    pay_all_invoices(sandbox)
    clock.move(days=65)
    before = len(sandbox.requests("GET"))

    sync(subscriber)

    reads = [entry["path"] for entry in sandbox.requests("GET")[before:]]
    assert reads == ["/v1/subscriptions", "/v1/invoices"]
    assert recorded() == invoices_at_stripe(sandbox)
    assert len(recorded()) == 3


def test_end_for_non_payment_ends_the_grace_of_an_invoice_without_webhook(
    sandbox, subscriber, clock
):
    pay_all_invoices(sandbox)
    clock.move(days=40)
    sandbox.app.transact(
        lambda context: cancel.cancel(
            context, subscriber.stripe_subscription_id, reason="payment_failed"
        )
    )

    sync_until_in_sync(subscriber)

    unpaid = InvoiceCollection.objects.unpaid()
    assert unpaid.exists()
    assert not unpaid.filter(suspend_at__gt=timezone.now()).exists()


def test_invoice_of_a_subscription_that_ended_long_ago_is_discovered(
    sandbox, subscriber, prices
):
    surplus = create_subscription_at_stripe(sandbox, subscriber, prices["basic"])
    sandbox.client().v1.subscriptions.cancel(surplus.id)

    discover_objects()

    assert recorded() == invoices_at_stripe(sandbox)
    assert surplus.latest_invoice in enqueued()


def test_changed_invoice_is_enqueued_and_an_unchanged_one_is_not(sandbox, subscriber):
    discover_objects()
    forget_messages()

    discover_objects()
    assert enqueued() == set()

    finalize_drafts(sandbox)
    discover_objects()
    assert enqueued() == recorded() != set()


def test_invoice_of_a_former_customer_is_discovered(sandbox, subscriber):
    """The customer was deleted; its open invoice remains."""
    sandbox.client().v1.customers.delete(subscriber.stripe_customer_id)
    InvoiceCollection.objects.all().delete()
    type(subscriber).objects.update(stripe_customer_id=None)

    discover_objects()

    assert recorded() == invoices_at_stripe(sandbox) != set()
    assert InvoiceCollection.objects.get().tenant == subscriber


def test_foreign_invoices_are_ignored(sandbox, subscriber, prices):
    other = sandbox.client().v1.customers.create({"email": "ann@example.com"})
    subscriber.stripe_customer_id = other.id
    foreign = create_subscription_at_stripe(
        sandbox, subscriber, prices["basic"], metadata={}
    )

    discover_objects()

    assert foreign.latest_invoice not in recorded()


def test_discovery_takes_one_request_for_a_hundred_invoices(
    sandbox, subscriber, prices, clock
):
    discover_objects()
    for _ in range(99):
        create_subscription_at_stripe(sandbox, subscriber, prices["basic"])
    before = len(sandbox.requests())

    clock.move(minutes=1)
    discover_objects()

    paths = [request["path"] for request in sandbox.requests()[before:]]
    assert paths.count("/v1/invoices") == 1
    assert len(paths) == 4  # and one for each kind of reversal
    assert len(recorded()) == 100


def test_discovery_never_replaces_a_newer_state(sandbox, subscriber, monkeypatch):
    """A webhook is processed between the answer of the list and its recording."""
    InvoiceCollection.objects.all().delete()
    record = record_new

    def finalize_first(invoice, tenant):
        newer = sandbox.client().v1.invoices.finalize_invoice(invoice.id)
        record_invoice(invoice=read_invoice(newer), tenant=tenant)
        record(invoice, tenant)

    monkeypatch.setattr(objects, "record_new", finalize_first)

    discover_objects()

    assert InvoiceCollection.objects.get().stripe_status == "open"


def test_failed_discovery_moves_no_cursor(sandbox, subscriber):
    discover_objects()
    before = StripeCursor.objects.get(pk="invoices").read_until
    sandbox.fault("status", method="GET", path="/v1/invoices", status=500, times=3)

    discover_objects()

    cursor = StripeCursor.objects.get(pk="invoices")
    assert (cursor.read_until, cursor.last_error_code) == (
        before,
        "stripe-unavailable",
    )
