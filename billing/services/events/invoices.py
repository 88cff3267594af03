"""Handles events on invoices, and the deletion of customers."""

from typing import Any

from django.utils import timezone

from billing.clients.stripe.client import Invoice, Stripe
from billing.models import InvoiceCollection, StripeEvent
from billing.services.collection.drafts import record_new
from billing.services.collection.settlements import METADATA_KEY
from billing.services.credits.recredit import request_recredit
from billing.services.customers.customer import is_gone
from billing.services.events.effects import Effect, no_effect, recreate_customer
from billing.services.invoices.records import (
    enqueue_collection,
    is_collected,
    record_and_enqueue,
    record_invoice,
    revision_of,
)
from billing.services.reversals.read import ChargeReversals
from billing.services.reversals.record import apply_reversals, fetch_refunded
from tenants.models import Tenant

#: Fields of a draft that a refused finalization changes.
_CHANGED_BY_REFUSAL = {"last_finalization_error", "automatically_finalizes_at"}


def invoice_created(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Record the invoice; collect it, unless Stripe will finalize it first."""
    invoice_id = str(event.data["object"]["id"])
    if _is_recorded(invoice_id, tenant):
        return lambda: _enqueue(invoice_id)
    invoice = stripe.invoices.get(invoice_id)
    return lambda: _describe(record_new(invoice, tenant), "recorded")


def invoice_finalized(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Enqueue the invoice's collection, which reads it; record an unknown one here.

    That suffices, since a finalized invoice suspends nobody for days.
    """
    invoice_id = str(event.data["object"]["id"])
    if _is_recorded(invoice_id, tenant):
        return lambda: _enqueue(invoice_id)
    return _read_invoice(stripe, invoice_id, tenant)


def invoice_changed(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Store the current state of the invoice, and enqueue its collection.

    It is read at once, since its debt may have ended: nobody is to be suspended for it
    while the collection waits for its turn. The events of a payment arrive after it was
    booked: they change nothing any more.
    """
    invoice_id = str(event.data["object"]["id"])
    if is_collected(invoice_id):
        return no_effect("collected already")
    return _read_invoice(stripe, invoice_id, tenant)


def credit_note_changed(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Store the invoice as the credit note left it, and enqueue its collection.

    If its subscription has ended, the unused time is credited on the new amounts. The
    note may include a refund that was made before: both then give back one amount.
    """
    invoice_id = str(event.data["object"]["invoice"])
    refunded = fetch_refunded(stripe, tenant, invoice_id)
    record = _read_invoice(stripe, invoice_id, tenant)
    return lambda: _recredit_and(record, refunded, invoice_id, tenant)


def _read_invoice(stripe: Stripe, invoice_id: str, tenant: Tenant) -> Effect:
    # Before the request: an answer that is overtaken by a newer one is not stored.
    since = revision_of(invoice_id)
    invoice = stripe.invoices.get(invoice_id)
    return lambda: _record_invoice(invoice, tenant, since)


def invoice_updated(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Store the invoice; collect it unless only a refused finalization changed it.

    A new status has an event of its own, and our mark is followed by a payment.
    """
    previous = event.data.get("previous_attributes") or {}
    if "status" in previous:
        return no_effect("its new status has its own event")
    if _is_our_mark(previous):
        return no_effect("marked by us")
    if previous.keys() <= _CHANGED_BY_REFUSAL and _is_refused(event):
        return _record_only(stripe, event, tenant)
    return invoice_changed(stripe, event, tenant)


def finalization_failed(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Store the refusal; the first one also enqueues a try of our own.

    Each of our tries causes such an event: the next one waits for the back-off.
    """
    if _is_refused(event):
        return _record_only(stripe, event, tenant)
    return invoice_changed(stripe, event, tenant)


def invoice_overdue(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """End the grace period: Stripe sends this event when an automation says so.

    https://docs.stripe.com/billing/automations
    """
    record = invoice_changed(stripe, event, tenant)
    invoice_id = str(event.data["object"]["id"])
    return lambda: f"{record()}{_end_grace(invoice_id)}"


def customer_deleted(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Create another customer if this one is really deleted."""
    customer = str(event.data["object"]["id"])
    if not is_gone(stripe, customer):
        return no_effect("the customer exists")
    return lambda: recreate_customer(tenant, customer)


def _is_recorded(invoice_id: str, tenant: Tenant) -> bool:
    return InvoiceCollection.objects.filter(pk=invoice_id, tenant=tenant).exists()


def _is_our_mark(previous: dict[str, Any]) -> bool:
    """Return whether only the payment hash of a Lightning payment was added."""
    metadata = previous.get("metadata")
    return previous.keys() == {"metadata"} and metadata == {METADATA_KEY: None}


def _is_refused(event: StripeEvent) -> bool:
    row = InvoiceCollection.objects.filter(pk=event.data["object"]["id"])
    return row.filter(hold=InvoiceCollection.Hold.REFUSED).exists()


def _record_only(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    invoice_id = str(event.data["object"]["id"])
    since = revision_of(invoice_id)
    invoice = stripe.invoices.get(invoice_id)

    def record() -> str:
        record_invoice(invoice=invoice, tenant=tenant, since=since)
        return "Stripe has refused to finalize it again"

    return record


def _recredit_and(
    record: Effect, refunded: list[ChargeReversals], invoice_id: str, tenant: Tenant
) -> str:
    # First: the lock order has invoices after tenants.
    Tenant.objects.lock(tenant.pk)
    for found in refunded:
        apply_reversals(found)
    outcome = record()
    for row in InvoiceCollection.objects.filter(pk=invoice_id):
        request_recredit(
            tenant_id=tenant.pk, subscription_id=row.stripe_subscription_id
        )
    return outcome


def _enqueue(invoice_id: str) -> str:
    if is_collected(invoice_id):
        return "collected already"
    enqueue_collection(invoice_id=invoice_id)
    return "collection enqueued"


def _record_invoice(invoice: Invoice, tenant: Tenant, since: int) -> str:
    collection = record_and_enqueue(invoice, tenant, since=since)
    return _describe(collection, "collection enqueued")


def _describe(collection: InvoiceCollection | None, outcome: str) -> str:
    if collection is None:
        return "not an invoice of one of our subscriptions"
    return f"the invoice is {collection.stripe_status}: {outcome}"


def _end_grace(invoice_id: str) -> str:
    now = timezone.now()
    in_grace = InvoiceCollection.objects.unpaid().filter(
        pk=invoice_id, suspend_at__gt=now
    )
    return "; its grace period is over" if in_grace.update(suspend_at=now) else ""
