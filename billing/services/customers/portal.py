"""Stripe's customer portal, where tenants manage their cards and see old invoices.

All changes of subscriptions are switched off there: relays decide what is billed.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from billing.clients.stripe.client import PortalConfiguration, Stripe
from billing.clients.stripe.errors import StripeRefused
from billing.exceptions import (
    CustomerGone,
    InvoiceNotOpen,
    ReturnUrlInvalid,
    UnknownInvoice,
)
from billing.models import InvoiceCollection
from billing.services.customers.customer import (
    detect_deleted_customer,
    ensure_customer,
)
from billing.services.sync.queue import mark_stale
from caravel.core import cache
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

#: Enabled features of each configuration, by its name in the metadata. Not
#: `customer_update`: a new e-mail address would only be stored at Stripe. `card` is for
#: payers with the link of an invoice, who must not see the tenant's other invoices.
ENABLED_FEATURES = {
    "tenant": frozenset({"invoice_history", "payment_method_update"}),
    "card": frozenset({"payment_method_update"}),
}
_FEATURES = (
    "customer_update",
    "invoice_history",
    "payment_method_update",
    "subscription_cancel",
    "subscription_pause",
    "subscription_update",
)
#: Metadata key that tells Caravel's configurations from others of the account.
_NAME_KEY = "caravel"
#: A cached id that has become invalid is refused by Stripe, and looked up again.
_CACHE_SECONDS = 3600


@dataclass(frozen=True)
class Configuration:
    """A portal configuration of Caravel's; `created` if it did not exist before."""

    name: str
    id: str
    created: bool


def portal_session(*, pubkey: str, return_url: str) -> str:
    """Return the URL of a tenant's portal at Stripe, valid for a short time.

    Creates the tenant's customer if needed. Raises Tenant.DoesNotExist, CustomerGone,
    ReturnUrlInvalid, WriteUnresolved or another StripeError.
    """
    stripe, tenant = Stripe(), Tenant.objects.get(pk=pubkey)
    customer = ensure_customer(stripe, tenant)
    params = {"customer": customer, "return_url": return_url}
    try:
        return _open(stripe, "tenant", params)
    except CustomerGone:
        mark_stale(tenant_id=tenant.pk)
        raise


def card_session(*, invoice_id: str, return_url: str) -> str:
    """Return the URL where the payer of an invoice adds a card, and sees nothing else.

    The page returns to `return_url` by itself. Raises UnknownInvoice, InvoiceNotOpen,
    CustomerGone, ReturnUrlInvalid or another StripeError.
    https://docs.stripe.com/customer-management/portal-deep-links
    """
    collection = InvoiceCollection.objects.filter(pk=invoice_id).first()
    if collection is None:
        raise UnknownInvoice("There is no such invoice.")
    if not collection.chargeable_cents:
        raise InvoiceNotOpen("There is nothing to pay by card on this invoice.")
    after = {"type": "redirect", "redirect": {"return_url": return_url}}
    flow = {"type": "payment_method_update", "after_completion": after}
    customer = collection.stripe_customer_id
    params = {"customer": customer, "return_url": return_url, "flow_data": flow}
    return _open(Stripe(), "card", params)


def ensure_configurations(stripe: Stripe) -> list[Configuration]:
    """Create the portal configurations that are missing, and correct the others.

    They are found by their metadata; if two were created concurrently, the oldest
    active one is used.
    """
    listed = stripe.portal_configurations.list()
    return [_ensure(stripe, name, listed) for name in ENABLED_FEATURES]


def _ensure(
    stripe: Stripe, name: str, listed: list[PortalConfiguration]
) -> Configuration:
    named = [each for each in listed if each.metadata.get(_NAME_KEY) == name]
    if not named:
        return Configuration(name, _create(stripe, name), created=True)
    oldest = min(named, key=lambda each: (not each.active, each.created, each.id))
    if not oldest.active or oldest.features != _feature_flags(name):
        logger.warning("portal_configuration_corrected", configuration=oldest.id)
        correct = {"active": True, "features": _features(name)}
        stripe.portal_configurations.update(oldest.id, correct)
    return Configuration(name, oldest.id, created=False)


def _create(stripe: Stripe, name: str) -> str:
    # A new idempotency key each time: Stripe would replay a refusal after its cause
    # is removed.
    key = f"portal:{name}:{uuid.uuid4()}"
    params = {
        "name": f"Caravel: {name}",
        "features": _features(name),
        "metadata": {_NAME_KEY: name},
    }
    return stripe.portal_configurations.create(params, key).id


def _features(name: str) -> dict[str, dict[str, bool]]:
    return {feature: {"enabled": on} for feature, on in _feature_flags(name).items()}


def _feature_flags(name: str) -> dict[str, bool]:
    return {feature: feature in ENABLED_FEATURES[name] for feature in _FEATURES}


def _open(stripe: Stripe, name: str, params: Mapping[str, Any]) -> str:
    try:
        return _create_session(stripe, _configuration_id(stripe, name), params)
    except StripeRefused as exc:
        # The cached configuration is of another account, or was deactivated since.
        if exc.param != "configuration":
            raise
    cache.delete(_cache_key(name))
    return _create_session(stripe, _configuration_id(stripe, name), params)


def _create_session(
    stripe: Stripe, configuration: str, params: Mapping[str, Any]
) -> str:
    with_configuration = {**params, "configuration": configuration}
    try:
        with detect_deleted_customer(stripe, params["customer"]):
            return stripe.portal_sessions.create(with_configuration)
    except StripeRefused as exc:
        if "return_url" in exc.param:
            raise ReturnUrlInvalid("Stripe does not accept this return URL.") from exc
        raise


def _configuration_id(stripe: Stripe, name: str) -> str:
    cached = cache.get(_cache_key(name))
    if isinstance(cached, str):
        return cached
    ids = {each.name: each.id for each in ensure_configurations(stripe)}
    by_key = {_cache_key(each): id for each, id in ids.items()}
    cache.set_many(by_key, seconds=_CACHE_SECONDS)
    return ids[name]


def _cache_key(name: str) -> str:
    return f"portal-configuration:{name}"
