"""Prices (docs: API reference, Prices)."""

from collections.abc import Iterator
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import (
    Array,
    Boolean,
    Choice,
    Hash,
    Integer,
    Metadata,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.catalog import products
from sandbox.stripe.objects.fields import (
    CURRENCY,
    check_amount,
    copy_params,
    new_metadata,
    nulls,
)
from sandbox.stripe.store.records import Record, Store

URL = "/v1/prices"
resource = Resource("price", indexes=("lookup_key", "product"))
CREATE = Shape(
    {
        "active": Boolean(),
        "currency": CURRENCY,
        "lookup_key": Text(max_length=200),
        "metadata": Metadata(),
        "product": Text(),
        "product_data": Hash({"name": Text()}, required=("name",)),
        "recurring": Hash(
            {"interval": Choice(("day", "month", "week", "year"))},
            required=("interval",),
        ),
        "transfer_lookup_key": Boolean(),
        "unit_amount": Integer(0),
    },
    required=("currency", "unit_amount"),
)
UPDATE = Shape({"active": Boolean(), "metadata": Metadata(), "nickname": Text()})
LIST = listing(active=Boolean(), lookup_keys=Array(Text()), product=Text())
UNUSED = nulls("custom_unit_amount tiers_mode transform_quantity")
UNUSED_IN_PLANS = nulls("tiers_mode transform_usage")
COPIED_TO_PLANS = (
    "id active billing_scheme created currency livemode metadata nickname product"
)
resource.retrievable(URL)


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Create a price, and a product if `product_data` is sent. Raises a 400."""
    if ("product" in params) == ("product_data" in params):
        raise invalid("You must specify either `product` or `product_data`.")
    check_amount(params["unit_amount"], params["currency"], "unit_amount")
    if "lookup_key" in params:
        _release_lookup_key(context, params)
    if "product_data" in params:
        product = products.create(context, params["product_data"])
    else:
        product = context.get_referenced("product", params["product"], "product")
    return context.insert(_new_price(context, params, product["id"]), "price.created")


@resource.get(URL, LIST)
def list_(context: Context, params: Params) -> Record:
    """Return prices, newest first."""
    keys = params.get("lookup_keys")
    return page(
        context.store,
        "price",
        URL,
        params,
        filters={"product": params.get("product")},
        where=lambda record: (
            (not keys or record["lookup_key"] in keys)
            and record["active"] is params.get("active", record["active"])
        ),
    )


@resource.post(f"{URL}/{{id}}", UPDATE)
def update(context: Context, params: Params, id: str) -> Record:
    """Archive a price or make it active again; change its texts. Raises a 404."""
    with context.update("price", id, "price.updated") as price:
        copy_params(price, params, "active", "metadata", "nickname")
    return price


def delete(context: Context, id: str) -> Record:
    """Delete a price that was never used, as only the dashboard can. Raises a 400."""
    price = context.get("price", id)
    if id in _used(context.store):
        raise invalid("This price is in use; archive it instead.")
    context.store.delete("price", id)
    context.emit("price.deleted", price)
    return price


def _used(store: Store) -> Iterator[str | None]:
    """Yield the prices of subscriptions, invoice items and invoices."""
    for subscription in store.scan("subscription"):
        yield from (item["price"] for item in subscription["_items"])
    yield from (item["_price"] for item in store.scan("invoiceitem"))
    for invoice in store.scan("invoice"):
        for line in invoice["_lines"]:
            yield line["pricing"] and line["pricing"]["price_details"]["price"]


def plan_of(price: Record) -> dict[str, Any]:
    """Return the legacy plan object for a recurring price."""
    return {
        **{name: price[name] for name in COPIED_TO_PLANS.split()},
        "object": "plan",
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        **price["recurring"],
        **UNUSED_IN_PLANS,
    }


def _release_lookup_key(context: Context, params: Params) -> None:
    """Unset the key on another price if `transfer_lookup_key`, else raise a 400."""
    index = ("lookup_key", params["lookup_key"])
    holder = next(context.store.scan("price", index=index), None)
    if holder is None:
        return
    if not params.get("transfer_lookup_key"):
        raise invalid(
            f"A price (`{holder['id']}`) already uses that lookup key.",
            param="lookup_key",
        )
    context.change("price", holder["id"], "price.updated", lookup_key=None)


def _new_price(context: Context, params: Params, product: str) -> dict[str, Any]:
    recurring = params.get("recurring") and {
        "interval": params["recurring"]["interval"],
        "interval_count": 1,
        "meter": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }
    return {
        **context.new("price", "price"),
        "active": params.get("active", True),
        "billing_scheme": "per_unit",
        "currency": params["currency"],
        "lookup_key": params.get("lookup_key"),
        "metadata": new_metadata(params),
        "nickname": None,
        "product": product,
        "recurring": recurring,
        "tax_behavior": "unspecified",
        "type": "recurring" if recurring else "one_time",
        "unit_amount": params["unit_amount"],
        "unit_amount_decimal": str(params["unit_amount"]),
        **UNUSED,
    }
