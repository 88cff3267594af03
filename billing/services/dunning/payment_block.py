"""Who owes so much, for so long, that nothing more is sold to them.

The same questions twice: of one tenant, and as conditions in SQL on all of them.
"""

from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.services.sync.queue import mark_stale
from tenants.models import Tenant


def suspending_invoice(tenant: Tenant) -> InvoiceCollection | None:
    """Return the oldest unpaid invoice whose grace is over and that switches off."""
    if tenant.dunning_exempt:
        return None
    overdue = InvoiceCollection.objects.overdue(timezone.now()).filter(tenant=tenant)
    found: InvoiceCollection | None = overdue.order_by("suspend_at", "pk").first()
    return found


def is_suspended(tenant: Tenant) -> bool:
    """Return whether an unpaid invoice whose grace is over switches the relays off."""
    return suspending_invoice(tenant) is not None


def is_blocked(tenant: Tenant) -> bool:
    """Return whether nothing more may be sold to the tenant until something is paid.

    Its relays are suspended, or its last subscription ended with something owed.
    """
    if tenant.dunning_exempt:
        return False
    unpaid = InvoiceCollection.objects.filter(tenant=tenant).unpaid()
    return is_suspended(tenant) or (
        not tenant.stripe_subscription_id and unpaid.exists()
    )


def suspended_q(now: datetime) -> Q:
    """Return the condition on tenants that `is_suspended_q` is."""
    overdue = InvoiceCollection.objects.filter(tenant=OuterRef("pk")).overdue(now)
    return Q(Exists(overdue), dunning_exempt=False)


def blocked_q(now: datetime) -> Q:
    """Return the condition on tenants that `is_blocked` is."""
    unpaid = InvoiceCollection.objects.filter(tenant=OuterRef("pk")).unpaid()
    ended = Q(Exists(unpaid), dunning_exempt=False, stripe_subscription_id=None)
    return suspended_q(now) | ended


def refresh_payment_block(*, tenant_id: str) -> bool:
    """Keep on the tenant whether it is in debt, and return it.

    What was held back meanwhile is for a sync to catch up with.
    """
    with transaction.atomic():
        tenant = Tenant.objects.lock(tenant_id)
        owes = is_blocked(tenant)
        if owes == (tenant.payment_overdue_since is not None):
            return owes
        since = timezone.now() if owes else None
        Tenant.objects.filter(pk=tenant_id).update(payment_overdue_since=since)
        if not owes:
            mark_stale(tenant_id=tenant_id)
    return owes
