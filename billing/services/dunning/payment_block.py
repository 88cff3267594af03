"""Payment blocks: tenants that must pay before they can buy more.

Each rule is stated twice: for one tenant, and as a filter on all tenants.
"""

from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.services.sync.queue import mark_stale
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


def refresh_payment_block(*, tenant_id: str) -> bool:
    """Store on the tenant whether it is blocked, and return it.

    When a block ends, the tenant is marked stale: a sync adds its other relays.
    """
    with transaction.atomic():
        return refresh_locked(Tenant.objects.lock(tenant_id))


def refresh_locked(tenant: Tenant) -> bool:
    """Like `refresh_payment_block`, for a tenant that the caller has locked."""
    blocked = is_blocked(tenant)
    if blocked == (tenant.payment_overdue_since is not None):
        return blocked
    since = timezone.now() if blocked else None
    Tenant.objects.filter(pk=tenant.pk).update(payment_overdue_since=since)
    if not blocked:
        mark_stale(tenant_id=tenant.pk)
    return blocked
