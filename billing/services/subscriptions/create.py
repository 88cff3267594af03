"""Creating a tenant's subscription: Stripe makes the invoices, Caravel charges."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings

from billing.clients.stripe.client import Stripe, Subscription
from billing.clients.stripe.errors import StripeRefused
from billing.models import StripeWrite
from billing.services.dunning.payment_block import refresh_payment_block
from billing.services.invoices.ownership import TENANT_KEY
from billing.services.stripe_writes.writes import Write
from billing.services.subscriptions.terms import alert_lost_terms, carried_terms
from tenants.models import Tenant

#: Metadata key: idempotency key of the write that created the subscription.
_WRITE_KEY = "caravel_intent"


class CreateSubscription(Write[Subscription]):
    """Create a tenant's subscription, or adopt the one an interrupted try created."""

    kind = StripeWrite.Kind.CREATE_SUBSCRIPTION

    def __init__(
        self,
        stripe: Stripe,
        tenant: Tenant,
        customer: str,
        quantities: Mapping[str, int],
        terms: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(subject=tenant.pk, tenant_id=tenant.pk)
        self._stripe = stripe
        self._tenant = tenant
        self._customer = customer
        self._quantities = quantities
        self._terms = terms or {}

    def params(self, key: str) -> dict[str, Any]:
        return {
            "customer": self._customer,
            "items": [
                {"price": price, "quantity": quantity}
                for price, quantity in self._quantities.items()
            ],
            "metadata": {TENANT_KEY: self._tenant.pubkey, _WRITE_KEY: key},
            "billing_mode": {"type": "flexible"},
            "proration_behavior": "create_prorations",
            **send_invoice_params(),
            **self._terms,
        }

    def send(self, params: dict[str, Any], key: str) -> Subscription:
        return self._stripe.subscriptions.create(params, key)

    def find(self, write: StripeWrite) -> Subscription | None:
        # Ended subscriptions too: it may have been cancelled since.
        listed = self._stripe.subscriptions.list(
            customer=write.params["customer"], ended=True
        )
        for subscription in listed:
            if subscription.metadata.get(_WRITE_KEY) == write.idempotency_key:
                return subscription
        return None

    def save(self, resource: Subscription) -> None:
        save_subscription_id(tenant_id=self._tenant.pk, subscription_id=resource.id)


def create_subscription(
    stripe: Stripe, tenant: Tenant, customer: str, quantities: Mapping[str, int]
) -> tuple[Subscription | None, dict[str, str]]:
    """Create a subscription with all items, or with the first that Stripe accepts.

    Returns it, None if each item is refused, and Stripe's message per refused price; an
    update adds the others. Discounts and taxes of the last subscription are carried
    over. Raises StripeRefused if the items are not the reason.
    """
    terms, refusals = carried_terms(stripe, tenant), dict[str, str]()
    singles = [{price: quantity} for price, quantity in quantities.items()]
    for items in singles if len(singles) == 1 else [quantities, *singles]:
        try:
            return _create(stripe, tenant, customer, items, terms), refusals
        except StripeRefused as exc:
            refusal = exc
        if len(items) == 1:
            refusals |= dict.fromkeys(items, refusal.message)
    if not is_about_items(refusal):
        raise refusal
    return None, refusals


def is_about_items(refusal: StripeRefused) -> bool:
    """Return whether Stripe refused a subscription because of one of its items."""
    return refusal.param.startswith("items")


def _create(
    stripe: Stripe,
    tenant: Tenant,
    customer: str,
    items: Mapping[str, int],
    terms: Mapping[str, Any],
) -> Subscription:
    """Create a subscription, without discounts or taxes that Stripe refuses."""
    try:
        return CreateSubscription(stripe, tenant, customer, items, terms).run()
    except StripeRefused as exc:
        refused = {name for name in terms if exc.param.startswith(name)}
        if not refused:
            raise
        alert_lost_terms(tenant, f"Stripe refuses {', '.join(refused)}: {exc}")
    kept = {name: value for name, value in terms.items() if name not in refused}
    return _create(stripe, tenant, customer, items, kept)


def send_invoice_params() -> dict[str, Any]:
    """Return the parameters that keep Stripe from charging by itself."""
    return {
        "collection_method": "send_invoice",
        "days_until_due": settings.BILLING_GRACE_DAYS,
    }


def save_subscription_id(*, tenant_id: str, subscription_id: str) -> None:
    """Store the tenant's current subscription, and whether that blocks purchases."""
    Tenant.objects.filter(pk=tenant_id).update(stripe_subscription_id=subscription_id)
    # Unpaid invoices block a tenant without a subscription at once, other tenants
    # only after the grace period.
    refresh_payment_block(tenant_id=tenant_id)
