"""Events on invoices, payment methods and customers."""

import pytest
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.models import InvoiceCollection, StripeEvent, SubscriptionSync
from billing.services.collection.collect import collect_invoice
from billing.services.events.process import process_event
from billing.services.invoices.records import record_invoice
from billing.tests.factories import StripeEventFactory

pytestmark = pytest.mark.django_db

INVOICE_EVENTS = (
    "invoice.created",
    "invoice.finalized",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.overdue",
    "invoice.voided",
    "invoice.marked_uncollectible",
)


def process_new_event(type, **fields) -> StripeEvent:
    event = StripeEventFactory(type=type, **fields)
    process_event(event_id=event.pk)
    event.refresh_from_db()
    return event


def process_invoice_event(type, tenant, invoice_id) -> StripeEvent:
    invoice = {
        "id": invoice_id,
        "object": "invoice",
        "customer": tenant.stripe_customer_id,
    }
    return process_new_event(type, object=invoice)


def is_enqueued(invoice_id) -> bool:
    return InvoiceCollection.objects.get(pk=invoice_id).enqueued_at is not None


@pytest.fixture
def open_invoice(subscriber) -> InvoiceCollection:
    """The tenant's first invoice, open and unpaid."""
    collect_invoice(invoice_id=InvoiceCollection.objects.get().pk)
    return InvoiceCollection.objects.get()


@pytest.mark.parametrize("type", INVOICE_EVENTS)
def test_each_invoice_event_enqueues_its_collection(type, open_invoice):
    event = process_invoice_event(type, open_invoice.tenant, open_invoice.pk)

    assert "collection enqueued" in event.outcome
    assert is_enqueued(open_invoice.pk)


@pytest.mark.parametrize("type", INVOICE_EVENTS)
def test_each_invoice_event_records_an_unknown_invoice(type, open_invoice):
    invoice_id = open_invoice.pk
    open_invoice.delete()

    process_invoice_event(type, open_invoice.tenant, invoice_id)

    assert is_enqueued(invoice_id)


def test_retrieved_invoice_decides_instead_of_the_payload(open_invoice, sandbox):
    sandbox.client().v1.invoices.void_invoice(open_invoice.pk)

    event = process_invoice_event("invoice.paid", open_invoice.tenant, open_invoice.pk)

    open_invoice.refresh_from_db()
    assert (open_invoice.stripe_status, event.outcome[:19]) == (
        "void",
        "the invoice is void",
    )


def test_older_answer_does_not_reopen_a_final_invoice(open_invoice, sandbox):
    earlier = Stripe().invoices.get(open_invoice.pk)
    sandbox.client().v1.invoices.void_invoice(open_invoice.pk)
    process_invoice_event("invoice.voided", open_invoice.tenant, open_invoice.pk)

    record_invoice(invoice=earlier, tenant=open_invoice.tenant)

    open_invoice.refresh_from_db()
    assert (open_invoice.stripe_status, open_invoice.amount_remaining_cents) == (
        "void",
        500,
    )


def test_invoice_overdue_ends_the_grace_period(open_invoice):
    assert open_invoice.suspend_at > timezone.now()

    process_invoice_event("invoice.overdue", open_invoice.tenant, open_invoice.pk)

    open_invoice.refresh_from_db()
    assert open_invoice.suspend_at <= timezone.now()


def test_late_invoice_overdue_does_not_change_a_paid_invoice(open_invoice, sandbox):
    sandbox.client().v1.invoices.pay(open_invoice.pk, {"paid_out_of_band": True})
    suspend_at = open_invoice.suspend_at

    process_invoice_event("invoice.overdue", open_invoice.tenant, open_invoice.pk)

    open_invoice.refresh_from_db()
    assert (open_invoice.stripe_status, open_invoice.suspend_at) == ("paid", suspend_at)


def test_invoice_without_a_subscription_is_ignored(subscriber, sandbox):
    customer = subscriber.stripe_customer_id
    invoice = sandbox.client().v1.invoices.create({"customer": customer})

    event = process_invoice_event("invoice.created", subscriber, invoice.id)

    assert event.outcome == "not an invoice of one of our subscriptions"
    assert not InvoiceCollection.objects.filter(pk=invoice.id).exists()


def test_invoice_outlives_its_customer(open_invoice, sandbox):
    sandbox.client().v1.customers.delete(open_invoice.stripe_customer_id)
    type(open_invoice.tenant).objects.update(stripe_customer_id=None)

    invoice = {"id": open_invoice.pk, "object": "invoice", "customer": "cus_gone"}
    event = process_new_event("invoice.voided", object=invoice)

    assert (event.status, event.tenant) == ("processed", open_invoice.tenant)


def card_event(type, tenant, **fields):
    card = {"id": "pm_1", "object": "payment_method", **fields}
    return process_new_event(
        type, object=card, previous={"customer": tenant.stripe_customer_id}
    )


def test_new_card_starts_an_attempt_for_each_open_invoice(open_invoice, sandbox):
    customer = open_invoice.stripe_customer_id
    sandbox.client().v1.payment_methods.attach("pm_card_visa", {"customer": customer})

    event = card_event(
        "payment_method.attached", open_invoice.tenant, customer=customer
    )
    collect_invoice(invoice_id=open_invoice.pk)

    open_invoice.refresh_from_db()
    assert event.outcome == "a new card for 1 open invoices"
    assert (open_invoice.stripe_status, open_invoice.paid_by) == ("paid", "card")


def test_detached_card_changes_nothing_at_once(open_invoice):
    event = card_event("payment_method.detached", open_invoice.tenant, customer=None)

    assert (event.status, event.tenant) == ("processed", open_invoice.tenant)
    assert not is_enqueued(open_invoice.pk)


def customer_event(customer):
    return process_new_event(
        "customer.deleted", object={"id": customer, "object": "customer"}
    )


def test_customer_deleted_clears_the_customer(subscriber, sandbox):
    customer = subscriber.stripe_customer_id
    sandbox.client().v1.customers.delete(customer)

    customer_event(customer)

    subscriber.refresh_from_db()
    assert (subscriber.stripe_customer_id, subscriber.stripe_subscription_id) == (
        None,
        None,
    )
    assert SubscriptionSync.objects.get(pk=subscriber.pk).is_stale


def test_customer_deleted_is_ignored_if_the_customer_exists(subscriber):
    event = customer_event(subscriber.stripe_customer_id)

    subscriber.refresh_from_db()
    assert event.outcome == "the customer exists"
    assert subscriber.stripe_customer_id
