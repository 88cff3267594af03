"""A tenant's credit, which reduces its next invoices."""

from dataclasses import dataclass

from django.db.models import Sum

from billing.clients.stripe.client import Stripe
from billing.models import Credit
from tenants.models import Tenant


@dataclass(frozen=True)
class TenantCredit:
    """Credit in one currency, "" before the first invoice.

    `credit_cents` is the balance at Stripe, negative if it increases the next invoice;
    `pending_cents` will be posted there, or reduce an open invoice.
    """

    currency: str = ""
    credit_cents: int = 0
    pending_cents: int = 0


def get_credit(*, tenant_id: str) -> TenantCredit:
    """Return a tenant's credit. Raises Tenant.DoesNotExist or a StripeError."""
    tenant = Tenant.objects.get(pk=tenant_id)
    owed = Credit.objects.owed().filter(tenant=tenant)
    pending = owed.aggregate(total=Sum("amount_cents", default=0))["total"]
    currency = owed.values_list("currency", flat=True).first() or ""
    if not tenant.stripe_customer_id:
        return TenantCredit(currency, 0, pending)
    customer = Stripe().customers.get(tenant.stripe_customer_id)
    # A deleted customer has no balance.
    return TenantCredit(customer.currency or currency, -customer.balance, pending)
