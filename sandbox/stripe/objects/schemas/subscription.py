"""Fields of subscriptions and their items (SDK types Subscription, ...Item)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.pagination import list_object
from sandbox.stripe.api.routing import public
from sandbox.stripe.objects.catalog.prices import plan_of
from sandbox.stripe.store.records import Record, Store

ENDED = frozenset({"canceled", "incomplete_expired"})
MAX_ITEMS = 20


def render(store: Store, record: Record) -> dict[str, Any]:
    """Return the subscription with its items, oldest first."""
    rendered = public(store, record)
    rendered["items"] = list_object(
        [render_item(store, item) for item in record["_items"]],
        f"/v1/subscription_items?subscription={record['id']}",
    )
    return rendered


def render_item(store: Store, item: Record) -> dict[str, Any]:
    """Return an item with its price and legacy plan."""
    price = store.get("price", item["price"]) or {}
    return {
        **public(store, item),
        "plan": plan_of(price),
        "price": public(store, price),
    }


def new_item(
    context: Context, subscription: str, price: str, quantity: int
) -> dict[str, Any]:
    """Return an item; the caller sets its period."""
    item: dict[str, Any] = {
        "id": context.ids.new("si", 14),
        "object": "subscription_item",
        "billed_until": None,
        "billing_thresholds": None,
        "created": context.now,
        "current_period_end": context.now,
        "current_period_start": context.now,
        "current_trial": None,
        "discounts": [],
        "metadata": {},
        "price": price,
        "quantity": quantity,
        "subscription": subscription,
        "tax_rates": [],
        # Debits of the current period, the base of later credits.
        "_debits": [],
    }
    context.store.put(
        # Maps the item to its subscription, for the endpoints of subscription items.
        "_item",
        {
            "id": item["id"],
            "object": "_item",
            "created": context.now,
            "subscription": subscription,
        },
    )
    return item


def new_subscription(context: Context, customer: str, currency: str) -> dict[str, Any]:
    """Return an active subscription that starts now, without items."""
    return {
        "id": context.ids.new("sub"),
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": context.now,
        "billing_cycle_anchor_config": None,
        "billing_mode": {
            "flexible": {"proration_discounts": "included"},
            "type": "flexible",
            "updated_at": None,
        },
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {
            "comment": None,
            "feedback": None,
            "feedback_option": None,
            "reason": None,
        },
        "collection_method": "charge_automatically",
        "created": context.now,
        "currency": currency,
        "customer": customer,
        "customer_account": None,
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {
            "account_tax_ids": None,
            "custom_fields": None,
            "description": None,
            "footer": None,
            "issuer": {"account": None, "type": "self"},
        },
        "latest_invoice": None,
        "livemode": False,
        "managed_payments": None,
        "metadata": {},
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "presentment_details": None,
        "schedule": None,
        "start_date": context.now,
        "status": "active",
        "status_details": None,
        "test_clock": None,
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": {
            "end_behavior": {
                "billing_cycle_anchor": None,
                "missing_payment_method": "create_invoice",
            }
        },
        "trial_start": None,
        "_items": [],
    }
