"""Handles events on subscriptions."""

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


def subscription_changed(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Act on the state at Stripe of the tenant's current subscription.

    Events about an earlier subscription change nothing.
    """
    subscription_id = str(event.data["object"]["id"])
    if subscription_id != tenant.stripe_subscription_id:
        return no_effect(EndReason.NOT_CURRENT)
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
