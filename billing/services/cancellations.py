"""Ending a subscription of ours so that the tenant owes for served time, once."""

import structlog

from billing.clients.stripe import Stripe, Subscription
from billing.exceptions import StripeNotFound
from billing.models import StripeIntent
from billing.services import intents

logger = structlog.get_logger(__name__)

_CANCEL = StripeIntent.Kind.CANCEL_SUBSCRIPTION


def cancel(stripe: Stripe, tenant_id: str, subscription: Subscription) -> None:
    """Cancel at once, and finalize the invoice that settles it.

    Nothing owed: the unused time is credited on a final invoice. Something owed: no
    credit for what was not paid; collection reduces the open invoice instead.
    """
    intent = StripeIntent.objects.of(_CANCEL, subscription.id).pending().first()
    if intent is None:
        settle = not _owes(stripe, subscription.id)
        intent = intents.open_intent(
            kind=_CANCEL,
            subject=subscription.id,
            tenant_id=tenant_id,
            params=lambda key: {"prorate": settle, "invoice_now": settle},
        )
    _finish(stripe, intent)


def finish_cancellations(stripe: Stripe, tenant_id: str) -> None:
    """Take up what a crash interrupted: no new subscription before its credit is in."""
    open_ones = StripeIntent.objects.pending().filter(kind=_CANCEL, tenant_id=tenant_id)
    for intent in open_ones.order_by("pk"):
        _finish(stripe, intent)


def _finish(stripe: Stripe, intent: StripeIntent) -> None:
    try:
        stripe.cancel_subscription(intent.subject, **intent.params)
    except StripeNotFound:
        # An earlier try, or a person, was quicker: it is over, which is what we want.
        logger.info("subscription_already_ended", subscription=intent.subject)
    if intent.params["invoice_now"]:
        for invoice in stripe.list_invoices(subscription=intent.subject):
            if invoice.status == "draft":
                stripe.finalize_invoice(invoice.id)
    intents.succeed(intent, intent.subject)


def _owes(stripe: Stripe, subscription_id: str) -> bool:
    invoices = stripe.list_invoices(subscription=subscription_id)
    return any(
        invoice.status in {"draft", "open", "uncollectible"}
        and invoice.amount_remaining > 0
        for invoice in invoices
    )
