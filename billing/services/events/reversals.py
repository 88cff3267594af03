"""Handles events on refunds, disputes and early fraud warnings."""

from billing.clients.stripe.client import Stripe
from billing.models import StripeEvent
from billing.services.events.effects import Effect, no_effect
from billing.services.reversals.record import (
    apply_reversals,
    fetch_reversals,
    find_tenant,
)
from tenants.models import Tenant


def reversal_changed(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Record all reversals of the charge: the event may be late, or not the first."""
    charge_id = charge_id_of(event)
    if not charge_id:
        return no_effect("not of a charge")
    found = fetch_reversals(stripe, tenant, stripe.charges.get(charge_id))
    return lambda: apply_reversals(found)


def charge_id_of(event: StripeEvent) -> str:
    """Return the id of the charge that an event is about, "" if none."""
    data = event.data["object"]
    if data.get("object") == "charge":
        return str(data["id"])
    return str(data.get("charge") or "")


def customer_of_charge(event: StripeEvent) -> str:
    """Return the customer of an event's charge: disputes and warnings name none."""
    charge_id = charge_id_of(event)
    return Stripe().charges.get(charge_id).customer if charge_id else ""


def tenant_of_charge(event: StripeEvent) -> Tenant | None:
    """Return the tenant whose invoice the event's charge has paid."""
    stripe, charge_id = Stripe(), charge_id_of(event)
    return find_tenant(stripe, stripe.charges.get(charge_id)) if charge_id else None
