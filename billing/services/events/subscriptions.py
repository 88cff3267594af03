"""Handles events on subscriptions."""

from typing import Any

from billing.clients.stripe.client import Stripe, Subscription
from billing.models import StripeEvent
from billing.services.customers.customer import is_gone
from billing.services.events.effects import Effect, no_effect, recreate_customer
from billing.services.subscriptions.diff import PAUSED, is_in_sync
from billing.services.subscriptions.ended import (
    EndReason,
    handle_subscription_ended,
    is_inactive,
)
from billing.services.subscriptions.pauses import record_pauses
from billing.services.subscriptions.terms import Terms, read_terms, store_terms
from billing.services.sync.queue import mark_stale
from tenants.models import Tenant

#: Fields of an item that each renewal changes.
_PERIOD_FIELDS = {"current_period_start", "current_period_end", "billed_until"}


def subscription_changed(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Act on the state at Stripe of the tenant's current subscription.

    Events about an earlier subscription change nothing.
    """
    subscription_id = str(event.data["object"]["id"])
    if subscription_id != tenant.stripe_subscription_id:
        return no_effect(EndReason.NOT_CURRENT)
    if _is_only_renewed(event):
        return no_effect("only its period has changed")
    subscription = stripe.subscriptions.get(subscription_id)
    if not is_inactive(subscription):
        terms = read_terms(stripe, tenant.pk, subscription)
        return lambda: _record_state(tenant, subscription, terms)
    customer = str(tenant.stripe_customer_id)
    if is_gone(stripe, customer):
        return lambda: recreate_customer(tenant, customer)
    return lambda: _handle_end(tenant, subscription)


def subscription_created(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Enqueue a sync if a person may have created the subscription.

    It decides which one stays, before an invoice of the other is charged.
    """
    if str(event.data["object"]["id"]) == tenant.stripe_subscription_id:
        return no_effect("the current subscription")
    return lambda: _enqueue_sync(tenant)


def _is_only_renewed(event: StripeEvent) -> bool:
    """Return whether nothing has changed but the period and the latest invoice.

    The invoice has events of its own, and what else has changed since has others.
    """
    previous = event.data.get("previous_attributes") or {}
    if not previous or not previous.keys() <= {"items", "latest_invoice"}:
        return False
    if "items" not in previous:
        return True
    items = _items_without_period(event.data["object"].get("items"))
    return items is not None and items == _items_without_period(previous["items"])


def _items_without_period(items: Any) -> list[dict[str, Any]] | None:
    """Return an event's list of items without their periods; None if it is unusual."""
    if not isinstance(items, dict) or items.get("has_more"):
        return None
    found = items.get("data")
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        return None
    return [
        {name: item[name] for name in item.keys() - _PERIOD_FIELDS} for item in found
    ]


def _handle_end(tenant: Tenant, subscription: Subscription) -> str:
    reason = handle_subscription_ended(tenant_id=tenant.pk, subscription=subscription)
    mark_stale(tenant_id=tenant.pk)
    return reason


def _record_state(tenant: Tenant, subscription: Subscription, terms: Terms) -> str:
    """Record pauses and terms; enqueue a sync if it differs from the relays."""
    record_pauses(tenant_id=tenant.pk, subscription=subscription)
    store_terms(tenant.pk, terms)
    if subscription.status == PAUSED:
        return "paused at Stripe: paid relays are off until it is resumed"
    if is_in_sync(Tenant.objects.get(pk=tenant.pk), subscription):
        return "matches the relays"
    return _enqueue_sync(tenant)


def _enqueue_sync(tenant: Tenant) -> str:
    mark_stale(tenant_id=tenant.pk)
    return "differs from the relays: sync enqueued"
