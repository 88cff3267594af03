"""Holds: reasons why an invoice is not finalized or not owed.

A person holds a draft by switching its `auto_advance` off, or by scheduling it. Stripe
does the same with new drafts while `pause_collection` is `keep_as_draft`:
https://docs.stripe.com/billing/subscriptions/pause-payment.
"""

from billing.clients.stripe.client import Invoice
from billing.clients.stripe.invoices import STOPPED_BY_US
from billing.models import InvoiceCollection

Hold = InvoiceCollection.Hold
Status = InvoiceCollection.Status

_MINUTE, _HOUR = 60, 3_600
#: Stripe finalizes a draft an hour after its webhooks are delivered; with this much
#: more, a later time was chosen by a person.
_STRIPE_DRAFT_PERIOD = 2 * _HOUR
#: Until they are delivered, the draft waits for at most three days:
#: https://docs.stripe.com/invoicing/integration/workflow-transitions
_MAX_STRIPE_DELAY = 72 * _HOUR


def hold_of(invoice: Invoice, *, was_refused: bool = False) -> InvoiceCollection.Hold:
    """Return the hold of an invoice, as last read from Stripe.

    `was_refused`: Stripe has refused to finalize it before. It does not change
    `auto_advance` then, so it is not mistaken for a draft that a person holds.
    """
    if _is_written_off_in_pause(invoice):
        return Hold.WRITTEN_OFF
    if invoice.status != Status.DRAFT:
        return Hold.NONE
    if invoice.auto_advance is False and not _stopped_by_us(invoice):
        return Hold.HELD
    if scheduled_at(invoice) is not None:
        return Hold.SCHEDULED
    return Hold.REFUSED if was_refused or invoice.finalization_error else Hold.NONE


def scheduled_at(invoice: Invoice) -> int | None:
    """Return when a draft is to be finalized if a person chose it, else None."""
    at, delivered_at = invoice.finalizes_at, invoice.webhooks_delivered_at
    if at is None:
        return None
    postponed_until = invoice.created + _MAX_STRIPE_DELAY
    if delivered_at is None and abs(at - postponed_until) <= 5 * _MINUTE:
        return None
    start = max(invoice.created, delivered_at or 0)
    return at if at > start + _STRIPE_DRAFT_PERIOD else None


def is_left_to_staff(invoice: Invoice) -> bool:
    """Return whether nothing is owed for an invoice unless a person changes it."""
    return hold_of(invoice) in {Hold.HELD, Hold.SCHEDULED, Hold.WRITTEN_OFF}


def _is_written_off_in_pause(invoice: Invoice) -> bool:
    """Return whether Stripe itself wrote an invoice off, as `pause_collection` asked.

    The reason is optional. Without it only the time tells: Stripe acts when it
    finalizes the invoice, a person later. No page of Stripe's confirms this.
    """
    if invoice.status != Status.UNCOLLECTIBLE:
        return False
    if invoice.written_off_reason:
        return invoice.written_off_reason == "subscription_paused"
    finalized_at, written_off_at = invoice.finalized_at, invoice.written_off_at
    if finalized_at is None or written_off_at is None:
        return False
    return written_off_at - finalized_at <= _MINUTE


def _stopped_by_us(invoice: Invoice) -> bool:
    return STOPPED_BY_US.items() <= dict(invoice.metadata).items()
