"""A tenant's customer at Stripe."""

import structlog
from django.conf import settings
from django.db import transaction

from billing.clients.stripe.client import Customer, Stripe
from billing.exceptions import CustomerBeingCreated, CustomerGone, StripeRefused
from billing.models import StripeWrite
from billing.services.stripe_writes import writes
from billing.services.stripe_writes.cancellations import record_external_end
from caravel.nostr import short_npub
from tenants.models import Tenant

logger = structlog.get_logger(__name__)


_CREATE = StripeWrite.Kind.CREATE_CUSTOMER


def ensure_customer(stripe: Stripe, tenant: Tenant) -> str:
    """Return the id of the tenant's customer, created on first need.

    Any number of calls at once create one.
    """
    if tenant.stripe_customer_id:
        return tenant.stripe_customer_id
    try:
        return _create_somehow(stripe, tenant)
    except CustomerBeingCreated:
        tenant.refresh_from_db(fields=["stripe_customer_id"])
        return tenant.stripe_customer_id or _create_somehow(stripe, tenant)


def resolve_pending_create(stripe: Stripe, tenant: Tenant, *, wanted: bool) -> None:
    """See `intents.resolve_pending`."""
    writes.resolve_pending(
        kind=_CREATE,
        subject=tenant.pk,
        wanted=wanted,
        find=lambda intent: _find(stripe, intent),
        store=lambda customer: _store(tenant, customer),
    )


def is_gone(stripe: Stripe, customer_id: str) -> bool:
    """Return whether the customer was deleted at Stripe: only its tombstone says so.

    Raises StripeNotFound when the account never had it.
    """
    return stripe.get_customer(customer_id).deleted


def customer_of(tenant: Tenant) -> str:
    """Return the id of the tenant's customer. Raises CustomerGone without one."""
    if not tenant.stripe_customer_id:
        raise CustomerGone("The tenant has no customer at Stripe.")
    return tenant.stripe_customer_id


def clear_customer(tenant: Tenant) -> None:
    """Clear the ids of a customer that was deleted at Stripe; the next is another."""
    logger.warning("stripe_customer_deleted", customer=tenant.stripe_customer_id)
    mine = Tenant.objects.filter(pk=tenant.pk)
    with transaction.atomic():
        if tenant.stripe_subscription_id:
            # It ended with its customer.
            record_external_end(
                tenant_id=tenant.pk, subscription_id=tenant.stripe_subscription_id
            )
        mine.filter(stripe_customer_id=tenant.stripe_customer_id).update(
            stripe_customer_id=None, stripe_subscription_id=None
        )
        # Whatever was still to be created was to be his.
        for intent in StripeWrite.objects.of(
            StripeWrite.Kind.CREATE_SUBSCRIPTION, tenant.pk
        ).pending():
            writes.abandon(intent)
    tenant.stripe_customer_id = tenant.stripe_subscription_id = None


def customer_email(tenant: Tenant) -> str:
    """Return the address that Stripe wants of a customer who gets invoices."""
    return tenant.email or placeholder_email(tenant)


def placeholder_email(tenant: Tenant) -> str:
    """Return an address in the operator's domain that has no mailbox behind it."""
    return f"{tenant.npub}@{settings.BILLING_EMAIL_DOMAIN}"


def _create_somehow(stripe: Stripe, tenant: Tenant) -> str:
    try:
        return _create(stripe, tenant, customer_email(tenant))
    except StripeRefused as exc:
        if exc.param != "email" or not tenant.email:
            raise
        # An address that only Stripe refuses must not make the relays free.
        logger.warning("stripe_refused_email", error=exc.message)
        return _create(stripe, tenant, placeholder_email(tenant))


def _create(stripe: Stripe, tenant: Tenant, email: str) -> str:
    params = {
        "name": tenant.display_name or short_npub(tenant.pubkey),
        "email": email,
        "metadata": {"tenant_pubkey": tenant.pubkey},
    }
    customer = writes.fulfil(
        kind=_CREATE,
        subject=tenant.pk,
        tenant_id=tenant.pk,
        params=lambda key: params,
        send=stripe.create_customer,
        find=lambda intent: _find(stripe, intent),
        store=lambda made: _store(tenant, made),
        guard=lambda: _require_none(tenant),
    )
    return customer.id


def _require_none(tenant: Tenant) -> None:
    """Lock the tenant; make sure that nobody has made a customer since it was read."""
    locked = Tenant.objects.select_for_update().get(pk=tenant.pk)
    begun = StripeWrite.objects.of(_CREATE, tenant.pk).pending()
    if locked.stripe_customer_id or begun.exists():
        raise CustomerBeingCreated("The tenant's customer is being created.")


def _store(tenant: Tenant, customer: Customer) -> None:
    Tenant.objects.filter(pk=tenant.pk).update(stripe_customer_id=customer.id)
    tenant.stripe_customer_id = customer.id


def _find(stripe: Stripe, intent: StripeWrite) -> Customer | None:
    # Lists are exact at once; Stripe's search may lag by minutes.
    candidates = stripe.list_customers(email=intent.params["email"])
    mine = (c for c in candidates if c.metadata.get("tenant_pubkey") == intent.subject)
    return next(mine, None)
