"""Effects that handlers of different events share."""

from collections.abc import Callable

from billing.services.customers.customer import clear_customer
from billing.services.sync.queue import mark_stale
from tenants.models import Tenant

#: The change that an event causes: it runs in the transaction that marks the event
#: processed, touches only the database, and returns a line for the event's outcome.
Effect = Callable[[], str]


def no_effect(reason: str) -> Effect:
    """Return an effect that changes nothing."""
    return lambda: reason


def recreate_customer(tenant: Tenant, customer: str) -> str:
    """Clear a customer that was deleted at Stripe; the next sync creates another."""
    if tenant.stripe_customer_id != customer:
        return "no tenant has this customer any more"
    clear_customer(tenant)
    mark_stale(tenant_id=tenant.pk)
    return "the customer was deleted at Stripe: sync enqueued"
