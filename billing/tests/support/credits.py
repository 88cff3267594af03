"""Credits for tests."""

from billing.models import Credit
from billing.services.credits.posting import record_credit
from tenants.models import Tenant


def owe(
    tenant: Tenant,
    cents: int,
    reason: Credit.Reason = Credit.Reason.SURPLUS,
    source: str = "a",
    collection_id: str | None = None,
) -> Credit:
    """Record a credit in US dollars, as yet unposted."""
    return record_credit(
        tenant_id=tenant.pk,
        reason=reason,
        source=source,
        currency="usd",
        amount_cents=cents,
        collection_id=collection_id,
    )
