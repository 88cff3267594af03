"""Finalizing drafts, except those that a person holds at Stripe."""

from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Invoice, Stripe
from billing.clients.stripe.errors import StripeRefused
from billing.clients.stripe.types import to_datetime
from billing.models import InvoiceCollection
from billing.services.collection.attempts import REREAD, Step, Wait
from billing.services.collection.undecided import is_of_current
from billing.services.credits.posting import post_credits
from billing.services.credits.recredit import request_recredit
from billing.services.dunning.stuck_drafts import record_refusal
from billing.services.invoices.holds import scheduled_at
from billing.services.invoices.records import enqueue_collection, record_invoice
from billing.services.stripe_writes import cancellations
from tenants.models import Tenant

Hold = InvoiceCollection.Hold
State = InvoiceCollection.State
Status = InvoiceCollection.Status
#: How long Stripe has to finalize a renewal's draft before Caravel does.
_STRIPE_DRAFT_WINDOW = timedelta(hours=2)
#: The same for a draft that a person has scheduled.
_STRIPE_SCHEDULE_WINDOW = timedelta(minutes=5)
#: Billing reasons of drafts that Stripe would keep for an hour, though nothing will be
#: added to them.
_FINALIZE_IMMEDIATELY = {"subscription_create", "subscription_update"}
_RECHECK_INTERVAL = timedelta(hours=6)


def finalize_draft(
    stripe: Stripe, collection: InvoiceCollection, invoice: Invoice
) -> Step:
    """Finalize a due draft, after posting credits so that they reduce it.

    Raises StripeRefused if Stripe refuses: support is alerted, and a retry follows.
    """
    if invoice.status != Status.DRAFT:
        return None
    if waiting := _wait_for_others(collection, invoice):
        return waiting
    post_credits(tenant_id=collection.tenant_id)
    try:
        stripe.invoices.finalize(collection.pk)
    except StripeRefused as exc:
        if stripe.invoices.get(collection.pk).status == Status.DRAFT:
            record_refusal(collection, exc)
            raise
        # Stripe or another worker has just finalized it.
    return REREAD


def record_new(invoice: Invoice, tenant: Tenant) -> InvoiceCollection | None:
    """Record an invoice that was unknown, and enqueue its collection.

    Not of a renewal's draft, which only waits: until Stripe should have finalized it,
    nothing is due. Returns None if the invoice is not for relays of this tenant.
    """
    with transaction.atomic(savepoint=False):
        collection = record_invoice(invoice=invoice, tenant=tenant)
        if collection and not _wait_for_stripe(collection, invoice):
            enqueue_collection(invoice_id=collection.pk)
    return collection


def _wait_for_stripe(collection: InvoiceCollection, invoice: Invoice) -> bool:
    """Let a new draft of the current subscription wait; False if more may be due."""
    is_new = not collection.outcome and collection.enqueued_at is None
    is_plain = collection.stripe_status == Status.DRAFT and not collection.hold
    if not is_new or not is_plain or invoice.billing_reason != "subscription_cycle":
        return False
    waiting = _wait_for_others(collection, invoice)
    if waiting is None or not is_of_current(collection):
        return False
    InvoiceCollection.objects.filter(pk=collection.pk).update(
        outcome=waiting.reason, next_attempt_at=waiting.until
    )
    return True


def wait_for_late_credit(
    stripe: Stripe, collection: InvoiceCollection, invoice: Invoice
) -> Step:
    """Have the sync credit what a draft bills after the end of its subscription.

    A draft that was held at that time was left out then. Requested once: until the
    invoice is first seen as finalized, the collection is in the state `draft`.
    """
    if collection.state != State.DRAFT or not _was_held_at_the_end(collection):
        return None
    with transaction.atomic():
        request_recredit(
            tenant_id=collection.tenant_id,
            subscription_id=collection.stripe_subscription_id,
        )
    reason = "Waiting for the days that were not served to be credited"
    return Wait(State.COLLECTING, reason, timezone.now() + timedelta(minutes=1))


def _was_held_at_the_end(collection: InvoiceCollection) -> bool:
    """Return whether a draft was finalized long after the end of its subscription."""
    terms = cancellations.stored_end_terms(collection.stripe_subscription_id)
    finalized_at = collection.finalized_at
    if terms is None or finalized_at is None:
        return False
    ended_at = to_datetime(terms.at)
    skew = timedelta(minutes=1)
    return collection.created_at < ended_at - skew and finalized_at > ended_at + skew


def _wait_for_others(collection: InvoiceCollection, invoice: Invoice) -> Wait | None:
    """Wait for the person who holds a draft, or for Stripe; None if it is due."""
    now = timezone.now()
    if collection.hold == Hold.HELD:
        reason = "Draft held at Stripe: its automatic advancement is off"
        return Wait(State.DRAFT, reason, now + _RECHECK_INTERVAL)
    if scheduled := scheduled_at(invoice):
        at = to_datetime(scheduled)
        reason = f"Draft scheduled at Stripe for {at:%-d %B %Y, %H:%M} UTC"
        return _wait_until(at + _STRIPE_SCHEDULE_WINDOW, reason)
    is_urgent = invoice.billing_reason in _FINALIZE_IMMEDIATELY
    # Stripe has tried a refused one already, and does not try again by itself.
    if is_urgent or collection.hold == Hold.REFUSED:
        return None
    due_at = collection.created_at + _STRIPE_DRAFT_WINDOW
    return _wait_until(due_at, "Waiting for Stripe to finalize the draft")


def _wait_until(until: datetime, reason: str) -> Wait | None:
    now = timezone.now()
    if now >= until:
        return None
    return Wait(State.DRAFT, reason, min(until, now + _RECHECK_INTERVAL))
