"""Blocks of purchases: tenants that must pay first, or whose billing is on hold.

Each rule is stated twice: for one tenant, and as a filter on all tenants.
"""

from datetime import datetime
from typing import Any

from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from billing.models import InvoiceCollection, SubscriptionSync
from billing.services.sync.queue import mark_stale
from caravel.core.db.prepared import PreparedQuery
from tenants.models import Tenant


def suspending_invoice(tenant: Tenant) -> InvoiceCollection | None:
    """Return the oldest unpaid invoice whose grace period has ended."""
    if tenant.dunning_exempt:
        return None
    overdue = InvoiceCollection.objects.overdue(timezone.now()).filter(tenant=tenant)
    oldest: InvoiceCollection | None = overdue.order_by("suspend_at", "pk").first()
    return oldest


def is_suspended(tenant: Tenant) -> bool:
    """Return whether an overdue invoice switches the tenant's paid relays off."""
    return suspending_invoice(tenant) is not None


def is_blocked(tenant: Tenant) -> bool:
    """Return whether the tenant must pay an invoice before it can buy more.

    True if it is suspended, if its last subscription ended with an unpaid invoice, or
    while it owes disputed money, also within the grace period.
    """
    if tenant.dunning_exempt:
        return False
    invoices = InvoiceCollection.objects.filter(tenant=tenant)
    if is_suspended(tenant) or invoices.disputed().exists():
        return True
    # Otherwise a tenant could start a new subscription instead of paying for the last.
    return not tenant.stripe_subscription_id and invoices.unpaid().exists()


def suspended_q(now: datetime) -> Q:
    """Return `is_suspended` as a filter on tenants."""
    overdue = InvoiceCollection.objects.filter(tenant=OuterRef("pk")).overdue(now)
    return Q(Exists(overdue), dunning_exempt=False)


def blocked_q(now: datetime) -> Q:
    """Return `is_blocked` as a filter on tenants."""
    invoices = InvoiceCollection.objects.filter(tenant=OuterRef("pk"))
    disputed = Q(Exists(invoices.disputed()), dunning_exempt=False)
    ended = Q(
        Exists(invoices.unpaid()), dunning_exempt=False, stripe_subscription_id=None
    )
    return suspended_q(now) | disputed | ended


def paused_since(tenant: Tenant) -> datetime | None:
    """Return since when the tenant's subscription is `paused` at Stripe, if it is."""
    paused = SubscriptionSync.objects.paused().filter(pk=tenant.pk)
    since: datetime | None = paused.values_list("paused_at", flat=True).first()
    return since


def is_on_hold(tenant: Tenant) -> bool:
    """Return whether nothing can be billed to the tenant, though it need not pay.

    True while its subscription is paused, or a draft with an amount to pay cannot be
    finalized; one that only credits takes nothing from us.
    """
    refused = InvoiceCollection.objects.refused_sales().filter(tenant=tenant)
    return paused_since(tenant) is not None or refused.exists()


def paused_q() -> Q:
    """Return `paused_since` as a filter on tenants."""
    return Q(Exists(SubscriptionSync.objects.paused().filter(pk=OuterRef("pk"))))


def on_hold_q() -> Q:
    """Return `is_on_hold` as a filter on tenants."""
    refused = InvoiceCollection.objects.refused_sales().filter(tenant=OuterRef("pk"))
    return paused_q() | Q(Exists(refused))


def read_payment_block(*, tenant_id: str) -> bool:
    """Return `refresh_payment_block`, in one statement if it would store nothing."""
    [(blocked, on_hold, overdue_since, on_hold_since)] = _BLOCK.fetch(
        tenant_id, timezone.now()
    )
    if blocked != bool(overdue_since) or on_hold != bool(on_hold_since):
        return refresh_payment_block(tenant_id=tenant_id)
    return bool(blocked or on_hold)


def _block(tenant_id: str, now: datetime) -> models.QuerySet[Tenant, Any]:
    rows = Tenant.objects.filter(pk=tenant_id)
    return rows.annotate(blocked=blocked_q(now), on_hold=on_hold_q()).values_list(
        "blocked", "on_hold", "payment_overdue_since", "billing_on_hold_since"
    )


_BLOCK = PreparedQuery(_block)


def refresh_payment_block(*, tenant_id: str) -> bool:
    """Store on the tenant whether it can buy more, and return whether it cannot.

    When a block ends, the tenant is marked stale: a sync adds its other relays.
    """
    with transaction.atomic():
        return refresh_locked(Tenant.objects.lock(tenant_id))


def refresh_locked(tenant: Tenant) -> bool:
    """Like `refresh_payment_block`, for a tenant that the caller has locked."""
    blocked, on_hold = is_blocked(tenant), is_on_hold(tenant)
    _store_since(tenant, "payment_overdue_since", blocked)
    _store_since(tenant, "billing_on_hold_since", on_hold)
    return blocked or on_hold


def _store_since(tenant: Tenant, column: str, is_blocked: bool) -> None:
    """Store since when a block lasts; mark the tenant stale when it ends."""
    if is_blocked == (getattr(tenant, column) is not None):
        return
    since = timezone.now() if is_blocked else None
    Tenant.objects.filter(pk=tenant.pk).update(**{column: since})
    if not is_blocked:
        mark_stale(tenant_id=tenant.pk)
