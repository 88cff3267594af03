"""Pauses that a person set on the current subscription at Stripe (ADR 20)."""

from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Subscription
from billing.clients.stripe.types import to_datetime
from billing.models import SubscriptionSync
from billing.services.dunning import notices
from billing.services.dunning.suspension import resume_relays, review_tenant
from billing.services.subscriptions.diff import PAUSED
from tenants.models import Tenant

logger = structlog.get_logger(__name__)


def record_pauses(*, tenant_id: str, subscription: Subscription) -> None:
    """Store the pauses of the tenant's current subscription, as just read.

    While its status is `paused`, paid relays are off; they return when it is resumed.
    A pause of its collection is stored for support only: relays stay on, and the
    invoices themselves say what Stripe has made of them. Idempotent.
    """
    with transaction.atomic():
        tenant = Tenant.objects.lock(tenant_id)
        if tenant.stripe_subscription_id != subscription.id:
            return
        rows = SubscriptionSync.objects
        rows.bulk_create([SubscriptionSync(tenant=tenant)], ignore_conflicts=True)
        stored = rows.select_for_update().get(pk=tenant_id)
        columns = _columns(subscription, stored)
        if columns == {name: getattr(stored, name) for name in columns}:
            return
        rows.filter(pk=tenant_id).update(**columns)
        logger.info("subscription_pauses", subscription=subscription.id, **columns)
        _switch_relays(tenant, before=stored, paused_at=columns["paused_at"])


def are_recorded(tenant_id: str, subscription: Subscription) -> bool:
    """Return whether `record_pauses` would change nothing.

    Only for a subscription whose status is not `paused`.
    """
    rows = SubscriptionSync.objects.filter(
        pk=tenant_id, tenant__stripe_subscription_id=subscription.id
    )
    return rows.filter(**_columns(subscription, SubscriptionSync())).exists()


def _columns(subscription: Subscription, stored: SubscriptionSync) -> dict[str, Any]:
    return {
        "paused_at": _paused_at(subscription, stored),
        "paused_subscription_id": subscription.id if _is_paused(subscription) else "",
        "collection_pause": subscription.pause_behavior,
        "collection_resumes_at": to_datetime(subscription.pause_resumes_at),
    }


def _paused_at(subscription: Subscription, stored: SubscriptionSync) -> datetime | None:
    if not _is_paused(subscription):
        return None
    known = stored.paused_subscription_id == subscription.id and stored.paused_at
    return to_datetime(subscription.paused_at) or known or timezone.now()


def _is_paused(subscription: Subscription) -> bool:
    return subscription.status == PAUSED


def _switch_relays(
    tenant: Tenant, *, before: SubscriptionSync, paused_at: datetime | None
) -> None:
    """Switch the relays of a locked tenant off or on, if the pause has changed."""
    if paused_at == before.paused_at:
        return
    if before.paused_at:
        notices.drop_paused_notice(tenant, before.paused_at)
    if not paused_at and before.paused_subscription_id == tenant.stripe_subscription_id:
        resume_relays(tenant)
    review_tenant(tenant_id=tenant.pk)
