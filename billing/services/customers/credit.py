"""A tenant's credit, which reduces its next invoices."""

from dataclasses import dataclass

from django.db.models import QuerySet, Sum

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
    customer_id = tenant.stripe_customer_id
    customer = Stripe().customers.get(customer_id) if customer_id else None
    currency = (customer and customer.currency) or _first_currency(owed)
    in_currency = owed.filter(currency=currency)
    pending = in_currency.aggregate(total=Sum("amount_cents", default=0))["total"]
    # A deleted customer has no balance.
    return TenantCredit(currency, -customer.balance if customer else 0, pending)


def _first_currency(owed: QuerySet[Credit]) -> str:
    return owed.values_list("currency", flat=True).order_by("pk").first() or ""
