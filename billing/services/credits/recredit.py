"""Requests to compute the credits for the end of a subscription again (ADR 18)."""

from billing.services.stripe_writes import cancellations
from billing.services.sync.queue import mark_stale
from tenants.models import Tenant


def request_recredit(*, tenant_id: str, subscription_id: str) -> None:
    """Have the next sync correct the credits for an end, in the caller's transaction.

    Call it when a refund, a dispute, a credit note of staff or a late draft changes
    them. Does nothing for a subscription that has not ended.
    """
    Tenant.objects.lock(tenant_id)
    if cancellations.mark_changed(subscription_id):
        mark_stale(tenant_id=tenant_id)
