"""Events on subscriptions: `customer.subscription.updated` and `.deleted`."""

from collections.abc import Callable

from billing.clients.stripe.client import Stripe, Subscription
from billing.models import StripeEvent
from billing.services.customers.customer import clear_customer, is_gone
from billing.services.subscriptions.diff import is_in_sync
from billing.services.subscriptions.ended import (
    EndReason,
    handle_subscription_ended,
    is_inactive,
)
from billing.services.sync.queue import mark_stale
from tenants.models import Tenant

#: What an event brings about: runs in the transaction that marks it processed,
#: touches only the database, and says what it did.
Effect = Callable[[], str]


def subscription_changed(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Act on what the subscription is now, if it is the tenant's current one."""
    subscription_id = str(event.data["object"]["id"])
    if subscription_id != tenant.stripe_subscription_id:
        return lambda: EndReason.NOT_CURRENT
    found = stripe.get_subscription(subscription_id)
    if not is_inactive(found):
        if is_in_sync(tenant, found):
            return lambda: "in step with the relays"
        return lambda: _resync(tenant)
    if is_gone(stripe, str(tenant.stripe_customer_id)):
        return lambda: _start_over(tenant)
    return lambda: _settle(tenant, subscription_id, found)


def _settle(tenant: Tenant, subscription_id: str, found: Subscription) -> str:
    ending = handle_subscription_ended(
        tenant_id=tenant.pk, subscription_id=subscription_id, found=found
    )
    mark_stale(tenant_id=tenant.pk)
    return ending


def _resync(tenant: Tenant) -> str:
    mark_stale(tenant_id=tenant.pk)
    return "differs from the relays: sync enqueued"


def _start_over(tenant: Tenant) -> str:
    clear_customer(tenant)
    mark_stale(tenant_id=tenant.pk)
    return "the customer was deleted at Stripe: sync enqueued"
