"""Ending a subscription of ours so that the tenant owes for served time, once."""

from datetime import UTC, datetime

import structlog
from django.db.models import Q

from billing.clients.stripe import Stripe, Subscription
from billing.exceptions import StripeNotFound, StripeRefused
from billing.models import StripeIntent
from billing.services import intents

logger = structlog.get_logger(__name__)

_CANCEL = StripeIntent.Kind.CANCEL_SUBSCRIPTION


def cancel(stripe: Stripe, tenant_id: str, subscription: Subscription) -> None:
    """Cancel at once, and finalize the invoice that settles it.

    Nothing owed: the unused time is credited on a final invoice. Something owed: no
    credit for what was not paid; collection reduces the open invoice instead. Raises
    StripeRefused when Stripe will not cancel.
    """
    settle = not _owes(stripe, subscription.id)
    intent = intents.open_intent(
        kind=_CANCEL,
        subject=subscription.id,
        tenant_id=tenant_id,
        params=lambda key: {"prorate": settle, "invoice_now": settle},
    )
    try:
        stripe.cancel_subscription(subscription.id, **intent.params)
    except StripeNotFound as exc:
        # An earlier try, or a person, was quicker; only Stripe's own word counts.
        if not has_ended(stripe.get_subscription(subscription.id)):
            intents.fail(intent, exc)
            raise
    except StripeRefused as exc:
        intents.fail(intent, exc)
        raise
    _settle(stripe, intent)


def finish_cancellations(stripe: Stripe, tenant_id: str) -> None:
    """Take up what a crash interrupted: no new subscription before its credit is in.

    One that lives on was not cancelled. Whether it should be, and on which terms, is
    decided anew: since then the relays or the invoices may have changed.
    """
    open_ones = StripeIntent.objects.pending().filter(kind=_CANCEL, tenant_id=tenant_id)
    for intent in open_ones.order_by("pk"):
        if has_ended(stripe.get_subscription(intent.subject)):
            _settle(stripe, intent)
        else:
            intents.abandon(intent)


def is_ours(subscription: Subscription) -> bool:
    """Return whether the end of a subscription is the effect of a cancel of ours.

    One that we gave up counts for as long as its request could still arrive.
    """
    sent = StripeIntent.objects.of(_CANCEL, subscription.id)
    ours = Q(state=StripeIntent.State.PENDING) | ~Q(stripe_id="")
    if subscription.canceled_at is not None:
        ended_at = datetime.fromtimestamp(subscription.canceled_at, UTC)
        ours |= Q(
            state=StripeIntent.State.ABANDONED,
            resolved_at__gte=ended_at - intents.SETTLED_AFTER,
        )
    return sent.filter(ours).exists()


def has_ended(subscription: Subscription) -> bool:
    """Return whether a subscription is over for good."""
    return subscription.status in {"canceled", "incomplete_expired"}


def _settle(stripe: Stripe, intent: StripeIntent) -> None:
    """Finalize what the cancellation left as a draft, so that its credit counts.

    A draft that Stripe will not finalize is for a person; the tenant is not stuck.
    """
    try:
        if intent.params["invoice_now"]:
            for invoice in stripe.list_invoices(subscription=intent.subject):
                if invoice.status == "draft":
                    stripe.finalize_invoice(invoice.id)
    except StripeRefused as exc:
        logger.error(
            "final_invoice_refused", subscription=intent.subject, error=exc.message
        )
        intents.fail(intent, exc, stripe_id=intent.subject)
    else:
        intents.succeed(intent, intent.subject)


def _owes(stripe: Stripe, subscription_id: str) -> bool:
    invoices = stripe.list_invoices(subscription=subscription_id)
    return any(
        invoice.status in {"draft", "open", "uncollectible"}
        and invoice.amount_remaining > 0
        for invoice in invoices
    )
