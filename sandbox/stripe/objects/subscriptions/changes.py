"""Changes to a subscription's items, with their prorations."""

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.stripe.api.context import Context, clone
from sandbox.stripe.api.errors import invalid, missing
from sandbox.stripe.api.params import Boolean, Hash, Integer, Kind, Metadata, Text
from sandbox.stripe.clock.periods import period_at
from sandbox.stripe.objects.catalog import tax_rates
from sandbox.stripe.objects.fields import copy_params
from sandbox.stripe.objects.schemas.subscription import new_item
from sandbox.stripe.objects.subscriptions import prorations
from sandbox.stripe.store.records import Record

MAX_ITEMS = 20
NEW_ITEM: dict[str, Kind] = {
    "metadata": Metadata(),
    "price": Text(),
    "quantity": Integer(0, 999_999_999),
    "tax_rates": tax_rates.TAX_RATES,
}
ITEM = Hash(NEW_ITEM, required=("price",))
ITEM_CHANGE = Hash({**NEW_ITEM, "deleted": Boolean(), "id": Text()})
Change = Mapping[str, Any]


def apply(
    context: Context,
    subscription: dict[str, Any],
    changes: Sequence[Change],
    *,
    prorate: bool,
) -> None:
    """Apply item changes to a subscription draft. Raises a 400.

    Only the result is validated, so one call can swap prices between items.
    """
    before = {item["id"]: item for item in clone(subscription["_items"])}
    for number, change in enumerate(changes):
        param = f"items[{number}]"
        if "id" in change:
            _change(context, subscription, change, param)
        else:
            _add(context, subscription, change, f"{param}[price]")
    _check_items(subscription)
    if prorate:
        _prorate(context, subscription, before)


def _add(
    context: Context, subscription: dict[str, Any], change: Change, param: str
) -> None:
    if "price" not in change:
        raise invalid("You must pass one of plan, price, or price_data.", param=param)
    price = _get_usable_price(context, subscription, change["price"], param)
    interval = price["recurring"]["interval"]
    period = period_at(subscription["billing_cycle_anchor"], interval, context.now)
    item = new_item(context, subscription["id"], price["id"], period)
    _assign(context, item, change)
    subscription["_items"].append(item)


def _change(
    context: Context, subscription: dict[str, Any], change: Change, param: str
) -> None:
    items = subscription["_items"]
    item = next((item for item in items if item["id"] == change["id"]), None)
    if item is None:
        id = change["id"]
        raise missing("subscription item", id, param=f"{param}[id]", status=400)
    if change.get("deleted"):
        items.remove(item)
        return
    if change.get("price", item["price"]) != item["price"]:
        param = f"{param}[price]"
        price = _get_usable_price(context, subscription, change["price"], param)
        _require_same_interval(context, item, price, param)
        item["price"] = price["id"]
    _assign(context, item, change)


def _assign(context: Context, item: dict[str, Any], change: Change) -> None:
    copy_params(item, change, "metadata", "quantity")
    if "tax_rates" in change:
        item["_tax_rates"] = tax_rates.require_active(
            context, change["tax_rates"], "items[tax_rates]"
        )


def _get_usable_price(
    context: Context, subscription: Record, id: str, param: str
) -> Record:
    """Return an active, recurring price in the subscription's currency."""
    price = context.get_referenced("price", id, param)
    currency = subscription["currency"]
    if not price["active"]:
        raise invalid(
            "The price specified is inactive. This field only accepts active prices.",
            param=param,
        )
    # Docs page "Manage products and prices": it cannot be added to new subscriptions,
    # existing ones go on. Text: https://github.com/stripe/stripe-go/issues/1031
    if not context.get("product", price["product"])["active"]:
        raise invalid(
            f"The product {price['product']} is marked as inactive, and thus no new "
            "subscriptions can be create to any plans of this product. You provided "
            f"the plan {id}.",
            param=param,
        )
    if price["recurring"] is None:
        raise invalid(
            "The price specified is set to `type=one_time` but this field only accepts "
            "prices with `type=recurring`.",
            param=param,
        )
    if price["currency"] != currency:
        raise invalid(
            f"The price specified only supports `{price['currency']}`. This doesn't "
            f"match the expected currency: `{currency}`.",
            param=param,
        )
    return price


def _require_same_interval(
    context: Context, item: Record, price: Record, param: str
) -> None:
    """Raise a 400 for another interval: it would restart the billing cycle."""
    old = context.get("price", item["price"])["recurring"]
    if old["interval"] != price["recurring"]["interval"]:
        raise invalid(
            "The sandbox does not change an item to a price with another interval; "
            "delete the item and add one.",
            param=param,
        )


def _check_items(subscription: Record) -> None:
    """Raise a 400 unless the items are a valid set."""
    prices = [item["price"] for item in subscription["_items"]]
    if not prices:
        raise invalid(
            "A subscription must have at least one active plan. To cancel a "
            "subscription, please use the cancel API endpoint on /v1/subscriptions.",
            param="items",
        )
    if len(prices) > MAX_ITEMS:
        raise invalid(
            f"A subscription can have at most {MAX_ITEMS} items.", param="items"
        )
    for price in prices:
        if prices.count(price) > 1:
            raise invalid(
                "Cannot add multiple subscription items with the same plan: " + price,
                param="plan",
            )


def _prorate(
    context: Context, subscription: Record, before: Mapping[str, Record]
) -> None:
    """Create the prorations of all changed items."""
    after = {item["id"]: item for item in subscription["_items"]}
    unchanged = {
        id
        for id, item in after.items()
        if id in before
        and before[id]["price"] == item["price"]
        and before[id]["quantity"] == item["quantity"]
    }
    # Debits first: lists are sorted newest first, and Stripe lists credits first.
    for id, item in after.items():
        if id not in unchanged:
            prorations.create_debit(context, subscription, item)
    for id, item in before.items():
        if id not in unchanged:
            prorations.create_credits(context, subscription, item)
