"""Changes to a subscription's items, with their prorations."""

from collections.abc import Mapping, Sequence
from typing import Any

from sandbox.stripe.api.context import Context, clone
from sandbox.stripe.api.errors import invalid, missing
from sandbox.stripe.api.params import Boolean, Choice, Hash, Kind, Metadata, Text
from sandbox.stripe.clock.periods import period_at
from sandbox.stripe.objects.fields import QUANTITY, merge_metadata
from sandbox.stripe.objects.schemas.subscription import MAX_ITEMS, new_item
from sandbox.stripe.objects.subscriptions import prorations
from sandbox.stripe.store.records import Record

PRORATION_BEHAVIOR = Choice(("always_invoice", "create_prorations", "none"))
NEW_ITEM: dict[str, Kind] = {
    "metadata": Metadata(),
    "price": Text(),
    "quantity": QUANTITY,
}
ITEM = Hash(NEW_ITEM)
ITEM_CHANGE = Hash({**NEW_ITEM, "deleted": Boolean(), "id": Text()})
Change = Mapping[str, Any]


def apply(
    context: Context,
    subscription: dict[str, Any],
    changes: Sequence[Change],
    *,
    prorate_at: int | None = None,
) -> None:
    """Apply item changes to a subscription draft. Raises a 400.

    Only the result is validated, so one call can swap prices between items. Changes
    are prorated from `prorate_at` on, or not at all if it is None.
    """
    before = {item["id"]: item for item in clone(subscription["_items"])}
    for number, change in enumerate(changes):
        _apply_one(context, subscription, change, f"items[{number}]")
    _check_items(subscription)
    if prorate_at is not None:
        _prorate(context, subscription, before, prorate_at)


def _check_items(subscription: Record) -> None:
    """Raise a 400 unless the items are a valid set."""
    items = subscription["_items"]
    if not items:
        raise invalid(
            "A subscription must have at least one active plan. To cancel a "
            "subscription, please use the cancel API endpoint on /v1/subscriptions.",
            param="items",
        )
    if len(items) > MAX_ITEMS:
        raise invalid(
            f"A subscription can have at most {MAX_ITEMS} items.", param="items"
        )
    seen: set[str] = set()
    for item in items:
        if item["price"] in seen:
            raise invalid(
                "Cannot add multiple subscription items with the same plan: "
                f"{item['price']}",
                param="plan",
            )
        seen.add(item["price"])


def get_usable_price(
    context: Context, id: str, param: str, currency: str | None = None
) -> Record:
    """Return an active, recurring price in the currency. Raises a 400."""
    price = context.get_referenced("price", id, param)
    if not price["active"]:
        raise invalid(
            "The price specified is inactive. This field only accepts active prices.",
            param=param,
        )
    if price["recurring"] is None:
        raise invalid(
            "The price specified is set to `type=one_time` but this field only accepts "
            "prices with `type=recurring`.",
            param=param,
        )
    if currency not in (None, price["currency"]):
        raise invalid(
            f"The price specified only supports `{price['currency']}`. This doesn't "
            f"match the expected currency: `{currency}`.",
            param=param,
        )
    return price


def set_period(context: Context, subscription: Record, item: dict[str, Any]) -> None:
    """Set the item's current period from its price and the billing cycle anchor."""
    recurring = context.get("price", item["price"])["recurring"]
    period = period_at(
        subscription["billing_cycle_anchor"],
        recurring["interval"],
        recurring["interval_count"],
        context.now,
    )
    item.update(current_period_start=period.start, current_period_end=period.end)


def find_item(subscription: Record, id: str) -> dict[str, Any] | None:
    """Return the item with this id, or None."""
    items: list[dict[str, Any]] = subscription["_items"]
    return next((item for item in items if item["id"] == id), None)


def _apply_one(
    context: Context, subscription: dict[str, Any], change: Change, param: str
) -> None:
    if "id" not in change:
        _add(context, subscription, change, param)
        return
    item = find_item(subscription, change["id"])
    if item is None:
        raise missing(
            "subscription item", change["id"], param=f"{param}[id]", status=400
        )
    if change.get("deleted"):
        subscription["_items"].remove(item)
        # Without this record, the item's own endpoints answer 404.
        context.store.delete("_item", item["id"])
        return
    _change(context, subscription, item, change, param)


def _add(
    context: Context, subscription: dict[str, Any], change: Change, param: str
) -> None:
    if "price" not in change:
        raise invalid(
            "You must pass one of plan, price, or price_data.", param=f"{param}[price]"
        )
    price = get_usable_price(
        context, change["price"], f"{param}[price]", subscription["currency"]
    )
    item = new_item(context, subscription["id"], price["id"], change.get("quantity", 1))
    item["metadata"] = merge_metadata({}, change.get("metadata", {}))
    set_period(context, subscription, item)
    subscription["_items"].append(item)


def _change(
    context: Context,
    subscription: Record,
    item: dict[str, Any],
    change: Change,
    param: str,
) -> None:
    if "price" in change and change["price"] != item["price"]:
        price = get_usable_price(
            context, change["price"], f"{param}[price]", subscription["currency"]
        )
        _require_same_interval(context, item, price, param)
        item["price"] = price["id"]
    if "quantity" in change:
        item["quantity"] = change["quantity"]
    if "metadata" in change:
        item["metadata"] = merge_metadata(item["metadata"], change["metadata"])


def _require_same_interval(
    context: Context, item: Record, price: Record, param: str
) -> None:
    """Raise a 400 for another interval: it would restart the billing cycle."""
    old = context.get("price", item["price"])["recurring"]
    names = ("interval", "interval_count")
    if any(old[name] != price["recurring"][name] for name in names):
        raise invalid(
            "The sandbox does not change an item to a price with another interval; "
            "delete the item and add one.",
            param=f"{param}[price]",
        )


def _prorate(
    context: Context, subscription: Record, before: Mapping[str, Record], at: int
) -> None:
    """Create the prorations of all changed items."""
    after = {item["id"]: item for item in subscription["_items"]}
    # Debits first: lists are sorted newest first, and Stripe lists credits first.
    for id, item in after.items():
        if id not in before or _needs_proration(before[id], item):
            prorations.create_debit(context, subscription, item, at)
    for id, old in before.items():
        if id not in after or _needs_proration(old, after[id]):
            prorations.create_credits(context, subscription, old, at)


def _needs_proration(old: Record, new: Record) -> bool:
    return bool(old["price"] != new["price"] or old["quantity"] != new["quantity"])
