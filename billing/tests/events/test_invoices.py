"""Events on invoices, cards and customers."""

import pytest
from django.utils import timezone

from billing.models import InvoiceCollection, StripeEvent, SubscriptionSync
from billing.services.collection.collect import collect_invoice
from billing.services.events.process import process_event
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


def tell(type, **fields) -> StripeEvent:
    event = StripeEventFactory(type=type, **fields)
    process_event(event_id=event.pk)
    event.refresh_from_db()
    return event


def tell_of_invoice(type, tenant, invoice_id) -> StripeEvent:
    invoice = {
        "id": invoice_id,
        "object": "invoice",
        "customer": tenant.stripe_customer_id,
    }
    return tell(type, object=invoice)


def is_woken(invoice_id) -> bool:
    return InvoiceCollection.objects.get(pk=invoice_id).enqueued_at is not None


@pytest.fixture
def opened(subscriber) -> InvoiceCollection:
    """The tenant's first invoice, open; nobody has paid it."""
    collect_invoice(invoice_id=InvoiceCollection.objects.get().pk)
    return InvoiceCollection.objects.get()


@pytest.mark.parametrize("type", INVOICE_EVENTS)
def test_each_event_on_an_invoice_has_it_looked_at(type, opened):
    event = tell_of_invoice(type, opened.tenant, opened.pk)

    assert event.outcome.startswith("the invoice is open: collection enqueued")
    assert is_woken(opened.pk)


@pytest.mark.parametrize("type", INVOICE_EVENTS)
def test_each_takes_up_an_invoice_that_nobody_told_of(type, opened):
    invoice_id = opened.pk
    opened.delete()

    tell_of_invoice(type, opened.tenant, invoice_id)

    assert is_woken(invoice_id)


def test_what_stripe_answers_decides_not_what_the_event_says(opened, sandbox):
    sandbox.client().v1.invoices.void_invoice(opened.pk)

    event = tell_of_invoice("invoice.paid", opened.tenant, opened.pk)

    opened.refresh_from_db()
    assert (opened.stripe_status, event.outcome[:19]) == ("void", "the invoice is void")


def test_an_earlier_answer_does_not_reopen_what_is_final(opened, sandbox):
    from billing.clients.stripe.client import Stripe
    from billing.services.invoices.records import record_invoice

    earlier = Stripe().get_invoice(opened.pk)
    sandbox.client().v1.invoices.void_invoice(opened.pk)
    tell_of_invoice("invoice.voided", opened.tenant, opened.pk)

    record_invoice(found=earlier, tenant=opened.tenant)

    opened.refresh_from_db()
    assert (opened.stripe_status, opened.amount_remaining_cents) == ("void", 500)


def test_overdue_ends_the_grace_now(opened):
    assert opened.suspend_at > timezone.now()

    tell_of_invoice("invoice.overdue", opened.tenant, opened.pk)

    opened.refresh_from_db()
    assert opened.suspend_at <= timezone.now()


def test_a_late_overdue_does_not_touch_what_was_paid(opened, sandbox):
    sandbox.client().v1.invoices.pay(opened.pk, {"paid_out_of_band": True})
    ends = opened.suspend_at

    tell_of_invoice("invoice.overdue", opened.tenant, opened.pk)

    opened.refresh_from_db()
    assert (opened.stripe_status, opened.suspend_at) == ("paid", ends)


def test_an_invoice_made_by_hand_is_none_of_ours(subscriber, sandbox):
    made = sandbox.client().v1.invoices.create(
        {"customer": subscriber.stripe_customer_id}
    )

    event = tell_of_invoice("invoice.created", subscriber, made.id)

    assert event.outcome == "not an invoice of one of our subscriptions"
    assert not InvoiceCollection.objects.filter(pk=made.id).exists()


def test_an_invoice_outlives_its_customer(opened, sandbox):
    sandbox.client().v1.customers.delete(opened.stripe_customer_id)
    type(opened.tenant).objects.update(stripe_customer_id=None)

    invoice = {"id": opened.pk, "object": "invoice", "customer": "cus_gone"}
    event = tell("invoice.voided", object=invoice)

    assert (event.status, event.tenant) == ("processed", opened.tenant)


def card_event(type, tenant, **fields):
    card = {"id": "pm_1", "object": "payment_method", **fields}
    return tell(type, object=card, previous={"customer": tenant.stripe_customer_id})


def test_a_new_card_is_tried_on_all_that_is_open(opened, sandbox):
    customer = opened.stripe_customer_id
    sandbox.client().v1.payment_methods.attach("pm_card_visa", {"customer": customer})

    event = card_event("payment_method.attached", opened.tenant, customer=customer)
    collect_invoice(invoice_id=opened.pk)

    opened.refresh_from_db()
    assert event.outcome == "a new card for 1 open invoices"
    assert (opened.stripe_status, opened.paid_by) == ("paid", "card")


def test_a_detached_card_changes_nothing_yet(opened):
    event = card_event("payment_method.detached", opened.tenant, customer=None)

    assert (event.status, event.tenant) == ("processed", opened.tenant)
    assert not is_woken(opened.pk)


def customer_event(customer):
    return tell("customer.deleted", object={"id": customer, "object": "customer"})


def test_a_deleted_customer_is_forgotten(subscriber, sandbox):
    customer = subscriber.stripe_customer_id
    sandbox.client().v1.customers.delete(customer)

    customer_event(customer)

    subscriber.refresh_from_db()
    assert (subscriber.stripe_customer_id, subscriber.stripe_subscription_id) == (
        None,
        None,
    )
    assert SubscriptionSync.objects.get(pk=subscriber.pk).is_stale


def test_a_customer_that_is_there_is_not_forgotten(subscriber):
    event = customer_event(subscriber.stripe_customer_id)

    subscriber.refresh_from_db()
    assert event.outcome == "the customer exists"
    assert subscriber.stripe_customer_id
