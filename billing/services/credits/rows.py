"""A credit's locks, and what names it at Stripe."""

from collections.abc import Mapping

from billing.models import Credit
from tenants.models import Tenant


def lock_tenant(credit: Credit) -> Tenant:
    """Lock and return whose credit it is: before any invoice, and the credit."""
    tenants = Tenant.objects.select_for_update(no_key=True)
    tenant: Tenant = tenants.get(pk=credit.tenant_id)
    return tenant


def lock(credit: Credit) -> Credit:
    """Lock and return a credit as it is now."""
    locked: Credit = Credit.objects.select_for_update().get(pk=credit.pk)
    return locked


def name_of(credit: Credit) -> dict[str, str]:
    """Return the metadata by which a later try finds what an earlier one made."""
    return {"caravel_credit": str(credit.pk)}


def is_named(credit: Credit, metadata: Mapping[str, str]) -> bool:
    """Return whether the metadata is of something made for this credit."""
    return metadata.get("caravel_credit") == str(credit.pk)


def text_of(credit: Credit) -> str:
    """Return what the tenant reads of it at Stripe."""
    return f"Credit: {credit.get_reason_display()}."
