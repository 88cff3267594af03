"""Holds by staff at Stripe: paused collection, paused subscriptions, held drafts."""

from typing import Any

from billing.clients.stripe.client import Stripe
from billing.models import InvoiceCollection
from billing.services.collection.collect import collect_invoice
from billing.services.events.process import process_event
from billing.services.invoices.records import record_and_enqueue
from billing.tests.factories import StripeEventFactory
from sandbox.stripe.client.testing import Sandbox
from tenants.models import Tenant


def pause_collection(sandbox: Sandbox, tenant: Tenant, behavior: str) -> None:
    changes: Any = {"pause_collection": {"behavior": behavior} if behavior else ""}
    sandbox.client().v1.subscriptions.update(
        str(tenant.stripe_subscription_id), changes
    )


def pause_subscription(sandbox: Sandbox, tenant: Tenant) -> None:
    """Pause a subscription: Stripe refuses it while invoices are sent."""
    api, id = sandbox.client().v1.subscriptions, str(tenant.stripe_subscription_id)
    api.update(id, {"collection_method": "charge_automatically"})
    api.pause(id)


def resume_subscription(sandbox: Sandbox, tenant: Tenant) -> None:
    """Resume a subscription at once: nothing is billed for the rest of its period."""
    params: Any = {"billing_cycle_anchor": {"type": "unchanged"}}
    sandbox.client().v1.subscriptions.resume(str(tenant.stripe_subscription_id), params)


def record_newest(tenant: Tenant) -> InvoiceCollection:
    """Do what the webhook of a new invoice does."""
    stripe = Stripe()
    newest = stripe.invoices.list(subscription=str(tenant.stripe_subscription_id))[0]
    recorded = record_and_enqueue(stripe.invoices.get(newest.id), tenant)
    assert recorded
    return recorded


def collect(collection: InvoiceCollection) -> InvoiceCollection:
    collect_invoice(invoice_id=collection.pk)
    collection.refresh_from_db()
    return collection


def process_events(sandbox: Sandbox, *types: str, since: int = 0) -> list[str]:
    """Process Stripe's events of some types, oldest first; return their outcomes."""
    params: Any = {"types": list(types), "created": {"gte": since}}
    outcomes = []
    for found in reversed(sandbox.client().v1.events.list(params).data):
        body = str(found)
        event = StripeEventFactory(id=found.id, type=found.type, body=body)
        process_event(event_id=event.pk)
        event.refresh_from_db()
        assert event.status == "processed", event.last_error
        outcomes.append(event.outcome)
    return outcomes
