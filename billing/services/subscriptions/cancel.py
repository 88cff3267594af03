"""Ending a subscription of ours so that the tenant owes for served time, once."""

from datetime import UTC, datetime

import structlog
from django.db import transaction

from billing.clients.stripe.client import Line, Stripe, Subscription
from billing.exceptions import StripeNotFound, StripeRefused
from billing.models import InvoiceCollection, StripeWrite
from billing.services.credits.posting import post_credits
from billing.services.customers.customer import is_gone
from billing.services.invoices.records import enqueue_collection
from billing.services.stripe_writes import writes
from billing.services.stripe_writes.cancellations import (
    CANCEL,
    create_cancellation,
    deleted_lines,
    ended_externally,
    prorates,
)
from billing.services.subscriptions import unused_time
from tenants.models import Tenant

logger = structlog.get_logger(__name__)


def cancel(stripe: Stripe, tenant_id: str, subscription: Subscription) -> None:
    """Cancel at once, and settle what was billed and not served.

    Nothing owed: Stripe credits it on a final invoice, which is finalized. Something
    owed: no credit for what was not paid; we reduce the open invoice instead. Raises
    StripeRefused when Stripe will not cancel.
    """
    owes = _owes(stripe, subscription.id)
    intent = create_cancellation(
        tenant_id=tenant_id,
        subscription_id=subscription.id,
        owes=owes,
        pending=_prorations(stripe, subscription) if owes else [],
    )
    try:
        stripe.cancel_subscription(
            subscription.id, prorate=not owes, invoice_now=not owes
        )
    except StripeNotFound as exc:
        # An earlier try, or a person, was quicker; only Stripe's own word counts.
        if not is_terminated(stripe.get_subscription(subscription.id)):
            writes.fail(intent, exc)
            raise
    except StripeRefused as exc:
        writes.fail(intent, exc)
        raise
    _settle(stripe, intent, stripe.get_subscription(subscription.id))


def resume_cancellations(stripe: Stripe, tenant_id: str) -> None:
    """Settle what a crash interrupted, and what others ended: before anything new.

    One that lives on was not cancelled. Whether it should be, and on which terms, is
    decided anew: since then the relays or the invoices may have changed.
    """
    open_ones = StripeWrite.objects.pending().filter(kind=CANCEL, tenant_id=tenant_id)
    for intent in open_ones.order_by("pk"):
        subscription = stripe.get_subscription(intent.subject)
        if is_terminated(subscription):
            _settle(stripe, intent, subscription)
        else:
            writes.abandon(intent)


def is_terminated(subscription: Subscription) -> bool:
    """Return whether a subscription is over for good."""
    return subscription.status in {"canceled", "incomplete_expired"}


def _settle(stripe: Stripe, intent: StripeWrite, ended: Subscription) -> None:
    """Finalize its drafts, then record credits for what was not served.

    A draft that Stripe will not finalize is for a person; the tenant is not stuck.
    """
    tenant = Tenant.objects.get(pk=intent.tenant_id)
    # What is credit already, the drafts draw on when they are finalized.
    post_credits(tenant_id=tenant.pk, stripe=stripe)
    refusal = _finalize_drafts(stripe, ended)
    billed = unused_time.list_billed_invoices(stripe, tenant, ended.id)
    found = _unserved(stripe, intent, ended, billed)
    with transaction.atomic():
        Tenant.objects.lock(tenant.pk)
        if not writes.is_pending(intent):
            # Another worker has settled it, by what it has read.
            return
        unused_time.credit_unused_time(
            tenant, ended.id, unused_time.ended_at(ended), found
        )
        if refusal:
            writes.fail(intent, refusal, stripe_id=ended.id)
        else:
            writes.succeed(intent, ended.id)
    # Before anything asks for the whole, which is what waking an invoice leads to.
    post_credits(tenant_id=tenant.pk, stripe=stripe)
    _enqueue_unpaid(billed)


def _finalize_drafts(stripe: Stripe, ended: Subscription) -> StripeRefused | None:
    """Finalize what is still a draft, so that it counts; returns why one was not."""
    refusal = None
    for invoice in stripe.list_invoices(subscription=ended.id):
        if invoice.status != "draft":
            continue
        try:
            stripe.finalize_invoice(invoice.id)
        except StripeRefused as exc:
            # Stripe, or another worker, may just have finalized it.
            if stripe.get_invoice(invoice.id).status == "draft":
                logger.error(
                    "final_invoice_refused", invoice=invoice.id, error=str(exc)
                )
                refusal = exc
    return refusal


def _unserved(
    stripe: Stripe,
    intent: StripeWrite,
    ended: Subscription,
    billed: list[unused_time.BilledInvoice],
) -> list[unused_time.UnusedTime]:
    at = unused_time.ended_at(ended)
    by_stripe = unused_time.is_settled_by_stripe(billed, at)
    if by_stripe and prorates(intent):
        return []
    deleted = deleted_lines(intent, datetime.fromtimestamp(at, UTC))
    return unused_time.unused_time(
        billed,
        at=at,
        pending=_pending(stripe, intent, ended),
        # Billed on that invoice, they were not deleted.
        deleted=() if by_stripe else deleted,
    )


def _pending(
    stripe: Stripe, intent: StripeWrite, ended: Subscription
) -> tuple[Line, ...]:
    """Return what somebody else's cancellation left to the next invoice."""
    if not ended_externally(intent) or is_gone(stripe, ended.customer):
        return ()
    return tuple(_prorations(stripe, ended))


def _prorations(stripe: Stripe, subscription: Subscription) -> list[Line]:
    pending = stripe.list_pending_items(
        customer=subscription.customer, subscription=subscription.id
    )
    return [line for line in pending if line.proration]


def _enqueue_unpaid(billed: list[unused_time.BilledInvoice]) -> None:
    unpaid = InvoiceCollection.objects.unpaid()
    ids = unpaid.filter(pk__in=[each.invoice.id for each in billed]).order_by("pk")
    for invoice_id in ids.values_list("pk", flat=True):
        enqueue_collection(invoice_id=invoice_id)


def _owes(stripe: Stripe, subscription_id: str) -> bool:
    invoices = stripe.list_invoices(subscription=subscription_id)
    return any(
        invoice.status in {"draft", "open", "uncollectible"}
        and invoice.amount_remaining > 0
        for invoice in invoices
    )
