"""Fields of subscriptions and their items (SDK types Subscription, ...Item)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.pagination import list_object
from sandbox.stripe.api.routing import public
from sandbox.stripe.clock.periods import Period
from sandbox.stripe.objects.catalog import tax_rates
from sandbox.stripe.objects.catalog.prices import plan_of
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.fields import empty_lists, nulls
from sandbox.stripe.store.records import Record, Store

ENDED = frozenset({"canceled", "incomplete_expired"})
UNUSED = {
    **nulls(
        "application application_fee_percent billing_cycle_anchor_config "
        "billing_thresholds customer_account default_source description "
        "managed_payments next_pending_invoice_item_invoice on_behalf_of "
        "pause_collection pending_invoice_item_interval pending_setup_intent "
        "pending_update schedule test_clock "
        "transfer_data trial_end trial_start"
    ),
    **empty_lists("billing_schedules"),
}
INITIAL = nulls(
    "cancel_at canceled_at days_until_due default_payment_method ended_at "
    "latest_invoice"
)


def render(store: Store, record: Record) -> dict[str, Any]:
    """Return the subscription with its items, oldest first."""
    rendered = public(store, record)
    rendered["default_tax_rates"] = tax_rates.render_all(
        store, record["_default_tax_rates"]
    )
    rendered["discounts"] = discounts.live(store, record["_discounts"])
    rendered["items"] = list_object(
        [_render_item(store, item) for item in record["_items"]],
        f"/v1/subscription_items?subscription={record['id']}",
    )
    return rendered


def _render_item(store: Store, item: Record) -> dict[str, Any]:
    price = store.get("price", item["price"]) or {}
    return {
        **public(store, item),
        "plan": plan_of(price),
        "price": public(store, price),
        "tax_rates": tax_rates.render_all(store, item["_tax_rates"]),
    }


def new_item(
    context: Context, subscription: str, price: str, period: Period
) -> dict[str, Any]:
    """Return an item for a price."""
    return {
        "id": context.ids.new("si", 14),
        "object": "subscription_item",
        **nulls("billing_thresholds current_trial"),
        "created": context.now,
        "current_period_end": period.end,
        "current_period_start": period.start,
        **empty_lists("discounts"),
        "metadata": {},
        "price": price,
        "quantity": 1,
        "subscription": subscription,
        # Debits of the current period, the base of later credits.
        "_debits": [],
        "_tax_rates": [],
    }


def new_subscription(context: Context, customer: str, currency: str) -> dict[str, Any]:
    """Return an active subscription that starts now, without items."""
    return {
        **context.new("subscription", "sub"),
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": context.now,
        "billing_mode": {
            "flexible": {"proration_discounts": "included"},
            "type": "flexible",
        },
        "cancel_at_period_end": False,
        "cancellation_details": nulls("comment feedback feedback_option reason"),
        "collection_method": "charge_automatically",
        "currency": currency,
        "customer": customer,
        "invoice_settings": {
            **nulls("account_tax_ids custom_fields description footer"),
            "issuer": {"type": "self"},
        },
        "metadata": {},
        "payment_settings": {
            **nulls("payment_method_options payment_method_types"),
            "save_default_payment_method": "off",
        },
        "start_date": context.now,
        "status": "active",
        "trial_settings": {
            "end_behavior": {
                "billing_cycle_anchor": None,
                "missing_payment_method": "create_invoice",
            }
        },
        "_default_tax_rates": [],
        "_discounts": [],
        "_items": [],
        **UNUSED,
        **INITIAL,
    }
