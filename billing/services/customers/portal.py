"""Stripe's customer portal, where people see to their cards and old invoices.

Whatever of a subscription could be changed there is off: relays decide what is billed.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from billing.clients.stripe.client import PortalConfiguration, Stripe
from billing.exceptions import (
    CustomerGone,
    InvoiceNotOpen,
    ReturnUrlInvalid,
    StripeRefused,
    UnknownInvoice,
)
from billing.models import InvoiceCollection
from billing.services.customers.customer import ensure_customer, is_gone
from billing.services.sync.queue import mark_stale
from caravel.core import cache
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

#: What each of our configurations offers, by the name that it has in its metadata. An
#: address that is changed at Stripe would not reach us. `card` is for who has the link
#: of an invoice only: nothing else is there, whatever the address of a session shows.
OFFERED = {
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
#: How ours are told from others of the account.
_MARK = "caravel"
#: Seconds that an id is remembered for; one that has become wrong is refused.
_REMEMBER = 3600


@dataclass(frozen=True)
class Configuration:
    """One of our portal configurations as it is now at Stripe."""

    name: str
    id: str
    created: bool


def portal_session(*, pubkey: str, return_url: str) -> str:
    """Return the address of a tenant's portal at Stripe, good for a short time.

    The tenant becomes a customer if it is none yet. Raises Tenant.DoesNotExist,
    CustomerGone, ReturnUrlInvalid, WriteUnresolved or another StripeError.
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
    """Return the address where who pays an invoice gives a card, and sees nothing else.

    It leads back by itself. Raises UnknownInvoice, InvoiceNotOpen, CustomerGone,
    ReturnUrlInvalid or another StripeError.
    https://docs.stripe.com/customer-management/portal-deep-links
    """
    collection = InvoiceCollection.objects.filter(pk=invoice_id).first()
    if collection is None:
        raise UnknownInvoice("There is no such invoice.")
    if not collection.is_unpaid:
        raise InvoiceNotOpen("There is nothing to pay on this invoice.")
    after = {"type": "redirect", "redirect": {"return_url": return_url}}
    flow = {"type": "payment_method_update", "after_completion": after}
    customer = collection.stripe_customer_id
    params = {"customer": customer, "return_url": return_url, "flow_data": flow}
    return _open(Stripe(), "card", params)


def ensure_configurations(stripe: Stripe) -> list[Configuration]:
    """Make the portal configurations that are missing, and correct the others.

    They are found by their metadata: the oldest, should two have been made at once.
    """
    listed = stripe.list_portal_configurations()
    return [_ensure(stripe, name, listed) for name in OFFERED]


def _ensure(
    stripe: Stripe, name: str, listed: list[PortalConfiguration]
) -> Configuration:
    ours = [each for each in listed if each.metadata.get(_MARK) == name]
    if not ours:
        return Configuration(name, _create(stripe, name), created=True)
    found = min(ours, key=lambda each: (not each.active, each.created, each.id))
    if not found.active or found.features != _switches(name):
        logger.warning("portal_configuration_corrected", configuration=found.id)
        correct = {"active": True, "features": _features(name)}
        stripe.update_portal_configuration(found.id, correct)
    return Configuration(name, found.id, created=False)


def _create(stripe: Stripe, name: str) -> str:
    # A key of its own each time: a replayed refusal would outlive what caused it.
    key = f"portal:{name}:{uuid.uuid4()}"
    params = {
        "name": f"Caravel: {name}",
        "features": _features(name),
        "metadata": {_MARK: name},
    }
    return stripe.create_portal_configuration(params, key).id


def _features(name: str) -> dict[str, dict[str, bool]]:
    return {feature: {"enabled": on} for feature, on in _switches(name).items()}


def _switches(name: str) -> dict[str, bool]:
    return {feature: feature in OFFERED[name] for feature in _FEATURES}


def _open(stripe: Stripe, name: str, params: Mapping[str, Any]) -> str:
    try:
        return _session(stripe, _known(stripe, name), params)
    except StripeRefused as exc:
        # Of another account, or switched off since it was looked up.
        if exc.param != "configuration":
            raise
    cache.delete(_key(name))
    return _session(stripe, _known(stripe, name), params)


def _session(stripe: Stripe, configuration: str, params: Mapping[str, Any]) -> str:
    try:
        return stripe.create_portal_session({**params, "configuration": configuration})
    except StripeRefused as exc:
        if exc.param == "customer" and is_gone(stripe, params["customer"]):
            raise CustomerGone("The customer was deleted at Stripe.") from exc
        if "return_url" in exc.param:
            raise ReturnUrlInvalid("This is no address to return to.") from exc
        raise


def _known(stripe: Stripe, name: str) -> str:
    known = cache.get(_key(name))
    if isinstance(known, str):
        return known
    found = {each.name: each.id for each in ensure_configurations(stripe)}
    ids = {_key(each): id for each, id in found.items()}
    cache.set_many(ids, seconds=_REMEMBER)
    return found[name]


def _key(name: str) -> str:
    return f"portal-configuration:{name}"
