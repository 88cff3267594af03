"""Consequences of the end of a tenant's current subscription."""

from collections.abc import Iterable
from enum import StrEnum

import structlog
from django.db import transaction

from billing.clients.stripe.client import Stripe, Subscription
from billing.models import InvoiceCollection
from billing.services.dunning.payment_block import (
    paused_since,
    refresh_payment_block,
)
from billing.services.dunning.suspension import end_grace_now
from billing.services.stripe_writes.cancellations import (
    cancelled_by_us,
    has_ended,
    record_external_end,
)
from billing.services.subscriptions.cancel import is_terminated
from billing.services.subscriptions.diff import LIVE, PAUSED
from relays.models import Relay
from relays.services.lifecycle import deactivate_relay
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

#: Values of Stripe's `cancellation_details.reason` for payments that failed:
#: https://docs.stripe.com/api/subscriptions/object
NON_PAYMENT = frozenset({"payment_failed", "payment_disputed"})


class EndReason(StrEnum):
    """Reason for the end of a subscription, with the consequence for the tenant."""

    CANCELLED_BY_US = "ended by us"
    CANCELLATION_REQUESTED = "cancelled by a person: paid relays made inactive"
    NON_PAYMENT = "unpaid: the grace period of its invoices is over"
    EXEMPT = "unpaid, but the tenant is exempt"
    UNEXPLAINED = "ended without a reason: will be created again"
    NOT_CURRENT = "not the current subscription: nothing changed"


def handle_subscription_ended(
    *, tenant_id: str, subscription: Subscription
) -> EndReason:
    """Clear a tenant's subscription that is no longer live, and act on the reason.

    Idempotent; `subscription` is as just read. Unused time and a replacement are left
    to the next sync: callers outside a sync must call `mark_stale`.
    """
    with transaction.atomic():
        tenant = Tenant.objects.lock(tenant_id)
        if tenant.stripe_subscription_id != subscription.id:
            return EndReason.NOT_CURRENT
        reason = _reason(tenant, subscription)
        if is_terminated(subscription):
            record_external_end(tenant_id=tenant_id, subscription_id=subscription.id)
        if reason == EndReason.CANCELLATION_REQUESTED:
            _deactivate_relays(tenant)
        if reason == EndReason.NON_PAYMENT:
            unpaid = InvoiceCollection.objects.unpaid().filter(
                stripe_subscription_id=subscription.id
            )
            ids = list(unpaid.values_list("pk", flat=True))
            end_grace_now(tenant_id=tenant_id, invoice_ids=ids)
        _clear(tenant)
    logger.info("subscription_ended", subscription=subscription.id, ending=reason.name)
    return reason


def record_unnoticed_ends(
    stripe: Stripe, tenant: Tenant, listed: Iterable[Subscription]
) -> bool:
    """Record ends of subscriptions that never were current, such as a duplicate.

    Their invoices wait in collection until the unused time is credited. Returns whether
    there are any.
    """
    working = InvoiceCollection.objects.working().filter(tenant=tenant)
    ids = set(working.values_list("stripe_subscription_id", flat=True))
    # Stripe lists an expired one until it is canceled.
    running = {each.id for each in listed if not is_terminated(each)}
    ids -= running | {tenant.stripe_subscription_id or ""}
    unnoticed = [id for id in sorted(ids) if not has_ended(id)]
    ended = [id for id in unnoticed if is_terminated(stripe.subscriptions.get(id))]
    for id in ended:
        with transaction.atomic():
            record_external_end(tenant_id=tenant.pk, subscription_id=id)
    return bool(ended)


def clear_subscription(*, tenant_id: str) -> None:
    """Record that a tenant no longer has a subscription."""
    with transaction.atomic():
        _clear(Tenant.objects.lock(tenant_id))


def is_inactive(subscription: Subscription) -> bool:
    """Return whether a subscription serves and bills no more; not for a paused one."""
    return subscription.status not in LIVE | {PAUSED}


def _reason(tenant: Tenant, subscription: Subscription) -> EndReason:
    if cancelled_by_us(subscription):
        return EndReason.CANCELLED_BY_US
    if subscription.cancel_reason == "cancellation_requested":
        return EndReason.CANCELLATION_REQUESTED
    if subscription.cancel_reason in NON_PAYMENT or subscription.status == "unpaid":
        return EndReason.EXEMPT if tenant.dunning_exempt else EndReason.NON_PAYMENT
    return EndReason.UNEXPLAINED


def _clear(tenant: Tenant) -> None:
    """Clear the subscription of a locked tenant.

    End the grace period of unpaid invoices if relays still run, such as one that was
    switched on during the cancellation: they would run free until it ends.
    """
    running = Relay.objects.suspendable().filter(tenant=tenant)
    if running.exists() and not tenant.dunning_exempt:
        unpaid = InvoiceCollection.objects.unpaid().filter(tenant=tenant)
        ids = list(unpaid.values_list("pk", flat=True))
        end_grace_now(tenant_id=tenant.pk, invoice_ids=ids)
    Tenant.objects.filter(pk=tenant.pk).update(stripe_subscription_id=None)
    refresh_payment_block(tenant_id=tenant.pk)


def _deactivate_relays(tenant: Tenant) -> None:
    """Make paid relays inactive, also those that a pause has switched off."""
    relays = Relay.objects.suspendable()
    if paused_since(tenant):
        relays |= Relay.objects.delinquent()
    # Lock order: rows by primary key.
    rows = relays.filter(tenant=tenant).order_by("pk")
    for relay_id in rows.values_list("pk", flat=True):
        deactivate_relay(relay_id=relay_id)
