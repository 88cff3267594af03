"""A tenant's customer at Stripe."""

from typing import Any

import structlog
from django.conf import settings

from billing.clients.stripe import Customer, Stripe
from billing.exceptions import CustomerGone
from billing.models import StripeIntent
from billing.services import intents
from caravel.nostr import short_npub
from tenants.models import Tenant

logger = structlog.get_logger(__name__)


def ensure_customer(stripe: Stripe, tenant: Tenant) -> str:
    """Return the id of the tenant's customer, created on first need."""
    if tenant.stripe_customer_id:
        return tenant.stripe_customer_id
    customer = intents.fulfil(
        kind=StripeIntent.Kind.CREATE_CUSTOMER,
        subject=tenant.pk,
        tenant_id=tenant.pk,
        params=lambda key: _params(tenant),
        send=stripe.create_customer,
        find=lambda intent: _find(stripe, intent),
    )
    Tenant.objects.filter(pk=tenant.pk).update(stripe_customer_id=customer.id)
    tenant.stripe_customer_id = customer.id
    return customer.id


def is_gone(stripe: Stripe, customer_id: str) -> bool:
    """Return whether the customer was deleted at Stripe."""
    return stripe.get_customer(customer_id) is None


def customer_of(tenant: Tenant) -> str:
    """Return the id of the tenant's customer. Raises CustomerGone without one."""
    if not tenant.stripe_customer_id:
        raise CustomerGone("The tenant has no customer at Stripe.")
    return tenant.stripe_customer_id


def forget_customer(tenant: Tenant) -> None:
    """Clear the ids of a customer that was deleted at Stripe; the next is another."""
    logger.warning("stripe_customer_deleted", customer=tenant.stripe_customer_id)
    mine = Tenant.objects.filter(pk=tenant.pk)
    mine.filter(stripe_customer_id=tenant.stripe_customer_id).update(
        stripe_customer_id=None, stripe_subscription_id=None
    )
    tenant.stripe_customer_id = tenant.stripe_subscription_id = None


def customer_email(tenant: Tenant) -> str:
    """Return the address that Stripe wants of a customer who gets invoices.

    It is the tenant's own, or one of the operator's domain with no mailbox behind.
    """
    return tenant.email or f"{tenant.npub}@{settings.BILLING_EMAIL_DOMAIN}"


def _params(tenant: Tenant) -> dict[str, Any]:
    return {
        "name": tenant.display_name or short_npub(tenant.pubkey),
        "email": customer_email(tenant),
        "metadata": {"tenant_pubkey": tenant.pubkey},
    }


def _find(stripe: Stripe, intent: StripeIntent) -> Customer | None:
    # Lists are exact at once; Stripe's search may lag by minutes.
    candidates = stripe.list_customers(email=intent.params["email"])
    mine = (c for c in candidates if c.metadata.get("tenant_pubkey") == intent.subject)
    return next(mine, None)
