"""Cancels subscriptions so that the tenant pays for the time that was served, once."""

from collections.abc import Sequence

from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Invoice, Line, Stripe, Subscription
from billing.clients.stripe.errors import StripeNotFound, StripeRefused
from billing.clients.stripe.types import to_datetime
from billing.exceptions import DisputeUnknown
from billing.models import InvoiceCollection, Reversal, StripeWrite
from billing.services.credits.posting import post_credits
from billing.services.customers.customer import is_gone
from billing.services.dunning.stuck_drafts import record_refusal
from billing.services.dunning.suspension import end_grace_now
from billing.services.invoices.holds import is_left_to_staff
from billing.services.invoices.records import enqueue_collection, read_invoice
from billing.services.reversals.record import record_customer_reversals
from billing.services.stripe_writes import writes
from billing.services.stripe_writes.cancellations import (
    CANCEL,
    EndTerms,
    asked_stripe_to_prorate,
    create_cancellation,
    deleted_lines,
    ended_externally,
    latest_change,
    save_deletes,
    save_end_terms,
)
from billing.services.subscriptions import end_credits, unused_time
from billing.services.subscriptions.unused_time import BilledInvoice
from caravel.core.alerts import alert_support
from tenants.models import Tenant


def cancel(stripe: Stripe, tenant_id: str, subscription: Subscription) -> None:
    """Cancel immediately, and credit the unused time.

    Without an unpaid invoice, Stripe credits it on a final invoice, which Caravel
    finalizes; what was given back already is debited again. Otherwise Stripe would
    credit time that was not paid for, so the open invoice is reduced instead. Also if
    collection is paused: Stripe would hold or void the final invoice. Raises
    StripeRefused if Stripe does not cancel.
    """
    unpaid = bool(subscription.pause_behavior) or _has_unpaid_invoice(
        stripe, subscription.id
    )
    write = create_cancellation(
        tenant_id=tenant_id,
        subscription_id=subscription.id,
        has_unpaid_invoice=unpaid,
        pending=_pending_prorations(stripe, subscription),
    )
    try:
        stripe.subscriptions.cancel(
            subscription.id, prorate=not unpaid, invoice_now=not unpaid
        )
    except StripeNotFound as exc:
        # An earlier try or a person may have cancelled it already.
        if not is_terminated(stripe.subscriptions.get(subscription.id)):
            writes.mark_failed(write, exc)
            raise
    except StripeRefused as exc:
        writes.mark_failed(write, exc)
        raise
    _credit_unused_time(stripe, write, stripe.subscriptions.get(subscription.id))


def resume_cancellations(stripe: Stripe, tenant_id: str) -> None:
    """Credit the unused time of ended subscriptions that is not credited yet.

    An earlier sync was interrupted, or the end was external. A subscription that is
    still live was not cancelled; the sync decides again whether to cancel it, and how.
    """
    pending = StripeWrite.objects.pending().filter(kind=CANCEL, tenant_id=tenant_id)
    for write in pending.order_by("pk"):
        subscription = stripe.subscriptions.get(write.subject)
        if is_terminated(subscription):
            _credit_unused_time(stripe, write, subscription)
        else:
            writes.mark_abandoned(write)


def is_terminated(subscription: Subscription) -> bool:
    """Return whether a subscription has ended for good."""
    return subscription.status in {"canceled", "incomplete_expired"}


def _credit_unused_time(
    stripe: Stripe, write: StripeWrite, ended: Subscription
) -> None:
    """Finalize the drafts, record the credits, and resolve the cancellation.

    A draft that Stripe refuses to finalize is left to its collection, with the write
    marked as failed: the tenant buys nothing until it is repaired.
    """
    tenant = Tenant.objects.get(pk=write.tenant_id)
    _record_reversals(stripe, tenant, ended)
    # First, since finalizing a draft applies the customer's balance to it:
    # https://docs.stripe.com/billing/customer/balance
    post_credits(tenant_id=tenant.pk, stripe=stripe)
    refusal = _finalize_drafts(stripe, tenant, ended)
    # Both before the amounts are read: whatever changes later is credited later.
    change, notes = latest_change(ended.id), end_credits.own_notes(ended.id)
    billed = unused_time.list_billed_invoices(stripe, tenant, ended.id)
    terms = _end_terms(stripe, write, ended, billed)
    with transaction.atomic():
        Tenant.objects.lock(tenant.pk)
        if not writes.is_pending(write):
            # Another worker has credited it already.
            return
        end_credits.credit_end(tenant, ended.id, terms, billed, notes)
        save_end_terms(write, terms, change)
        if refusal:
            writes.mark_failed(write, refusal, stripe_id=ended.id)
        else:
            writes.mark_succeeded(write, ended.id)
    # Before the collection is enqueued: it would charge the unreduced amount.
    post_credits(tenant_id=tenant.pk, stripe=stripe)
    _enqueue_unpaid(billed)


def _record_reversals(stripe: Stripe, tenant: Tenant, ended: Subscription) -> None:
    """Record what was taken back of the payments, so that none of it is credited.

    Raises DisputeUnknown if Stripe ended the subscription for a dispute that it does
    not show yet.
    """
    record_customer_reversals(stripe, tenant, ended.customer)
    if ended.cancel_reason != "payment_disputed":
        return
    invoices = InvoiceCollection.objects.filter(stripe_subscription_id=ended.id)
    disputes = Reversal.objects.filter(kind=Reversal.Kind.DISPUTE)
    if not disputes.filter(collection__in=invoices).exists():
        alert_support(
            "dispute_unknown",
            "Stripe ended a subscription for a dispute, but shows none.",
            tenant=tenant.pk,
            subscription=ended.id,
        )
        raise DisputeUnknown("The dispute that ended the subscription is not known.")
    if not tenant.dunning_exempt:
        # An event about the end may have come before the dispute was recorded.
        ids = list(invoices.unpaid().values_list("pk", flat=True))
        end_grace_now(tenant_id=tenant.pk, invoice_ids=ids)


def _finalize_drafts(
    stripe: Stripe, tenant: Tenant, ended: Subscription
) -> StripeRefused | None:
    """Finalize the drafts that nobody holds; returns the last refusal."""
    refusal = None
    for invoice in stripe.invoices.list(subscription=ended.id):
        if invoice.status != "draft" or _is_held(invoice, ended):
            continue
        try:
            stripe.invoices.finalize(invoice.id)
        except StripeRefused as exc:
            # Stripe or another worker may just have finalized it.
            if read_invoice(stripe, invoice.id, tenant).status == "draft":
                refusal = exc
                record_refusal(InvoiceCollection.objects.get(pk=invoice.id), exc)
    return refusal


def _is_held(invoice: Invoice, ended: Subscription) -> bool:
    """Return whether a person holds a draft; never one that the end has created."""
    is_older = invoice.created < unused_time.ended_at(ended) - unused_time.CLOCK_SKEW
    return is_older and is_left_to_staff(invoice)


def _end_terms(
    stripe: Stripe,
    write: StripeWrite,
    ended: Subscription,
    billed: Sequence[BilledInvoice],
) -> EndTerms:
    """Return the terms of an end, after deleting prorations that Stripe has kept."""
    at = unused_time.ended_at(ended)
    by_stripe = unused_time.is_settled_by_stripe(billed, at)
    if by_stripe and asked_stripe_to_prorate(write):
        return EndTerms(at, prorated=True)
    gone = is_gone(stripe, ended.customer)
    pending = [] if gone else _pending_prorations(stripe, ended)
    deleted = list(deleted_lines(write, to_datetime(at)))
    # Sources disagree whether Stripe deletes them, so they may still be there. Those of
    # an end by staff must not reduce a later invoice while one is unpaid.
    is_open = any(each.invoice.status == "open" for each in billed)
    if not ended_externally(write) or (is_open and not by_stripe):
        save_deletes(write, pending)
        for line in pending:
            stripe.invoice_items.delete(line.item)
        deleted, pending = [*deleted, *pending], []
    # The final invoice bills prorations, which then were not deleted.
    billed_items = {line.item for each in billed for line in each.lines}
    left = {line.item for line in pending} | billed_items
    gone_lines = {
        line.id: line for line in deleted if not by_stripe and line.id not in left
    }
    return EndTerms(at, tuple(pending), tuple(gone_lines.values()))


def _pending_prorations(stripe: Stripe, subscription: Subscription) -> list[Line]:
    pending = stripe.invoice_items.list_pending(
        customer=subscription.customer,
        subscription=subscription.id,
        default_tax_rates=subscription.default_tax_rates,
    )
    return [line for line in pending if line.proration]


def _enqueue_unpaid(billed: Sequence[BilledInvoice]) -> None:
    unpaid = InvoiceCollection.objects.unpaid()
    ids = unpaid.filter(pk__in=[each.invoice.id for each in billed]).order_by("pk")
    for invoice_id in ids.values_list("pk", flat=True):
        enqueue_collection(invoice_id=invoice_id)


def _has_unpaid_invoice(stripe: Stripe, subscription_id: str) -> bool:
    return any(map(_is_unpaid, stripe.invoices.list(subscription=subscription_id)))


def _is_unpaid(invoice: Invoice) -> bool:
    """Return whether Stripe would credit time for which this invoice was not paid.

    A void one counts while its period runs.
    """
    if invoice.status == "void":
        now = timezone.now().timestamp()
        return any(line.period_end > now for line in invoice.lines)
    is_payable = invoice.status in {"draft", "open", "uncollectible"}
    return is_payable and invoice.amount_remaining > 0
