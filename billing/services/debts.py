"""Who owes so much, for so long, that nothing more is sold to them."""

from django.utils import timezone

from billing.models import InvoiceCollection
from tenants.models import Tenant


def is_suspended(tenant: Tenant) -> bool:
    """Return whether an unpaid invoice whose grace is over switches the relays off."""
    if tenant.dunning_exempt:
        return False
    unpaid = InvoiceCollection.objects.filter(tenant=tenant)
    return unpaid.overdue(timezone.now()).exists()


def is_in_debt(tenant: Tenant) -> bool:
    """Return whether nothing more may be sold to the tenant until something is paid.

    Its relays are suspended, or its last subscription ended with something owed.
    """
    if tenant.dunning_exempt:
        return False
    unpaid = InvoiceCollection.objects.filter(tenant=tenant).unpaid()
    return is_suspended(tenant) or (
        not tenant.stripe_subscription_id and unpaid.exists()
    )
