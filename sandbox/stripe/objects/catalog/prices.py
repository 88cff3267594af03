"""Prices (docs: API reference, Prices)."""

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
    Kind,
    Metadata,
    Range,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.catalog import products
from sandbox.stripe.objects.fields import (
    CURRENCY,
    amount_decimal,
    check_amount,
    copy_params,
    merge_metadata,
    new_metadata,
)
from sandbox.stripe.store.records import Record

URL = "/v1/prices"
resource = Resource("price", indexes=("lookup_key", "product"))

LOOKUP_KEY = Text(unset=True, max_length=200)
# Metered usage and tiers are not modelled: `usage_type` and `billing_scheme` have one
# value each, and others are refused.
RECURRING = Hash(
    {
        "interval": Choice(("day", "month", "week", "year")),
        "interval_count": Integer(1),
        "usage_type": Choice(("licensed",)),
    },
    required=("interval",),
)
# "Maximum of three years interval allowed" (SDK, Price.create); the days are assumed.
MAX_INTERVALS = {"day": 1_095, "week": 156, "month": 36, "year": 3}
UPDATE_FIELDS: dict[str, Kind] = {
    "active": Boolean(),
    "lookup_key": LOOKUP_KEY,
    "metadata": Metadata(),
    "nickname": Text(unset=True),
    "tax_behavior": Choice(("exclusive", "inclusive", "unspecified")),
    "transfer_lookup_key": Boolean(),
}
CREATE = Shape(
    {
        **UPDATE_FIELDS,
        "billing_scheme": Choice(("per_unit",)),
        "currency": CURRENCY,
        "product": Text(),
        "product_data": Hash(
            {
                key: products.FIELDS[key]
                for key in ("active", "metadata", "name", "unit_label")
            },
            required=("name",),
        ),
        "recurring": RECURRING,
        "unit_amount": Integer(0),
    },
    required=("currency", "unit_amount"),
)


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Create a price, and a product if `product_data` is sent. Raises a 400."""
    if ("product" in params) == ("product_data" in params):
        raise invalid("You must specify either `product` or `product_data`.")
    check_amount(params["unit_amount"], params["currency"], "unit_amount")
    _check_interval(params.get("recurring"))
    lookup_key = params.get("lookup_key")
    if lookup_key:
        _release_lookup_key(context, lookup_key, params)
    price = _new_price(context, params, _product(context, params)["id"])
    return context.insert(price, "price.created")


@resource.get(
    URL,
    listing(
        active=Boolean(),
        created=Range(),
        currency=CURRENCY,
        lookup_keys=Array(Text(), maximum=10),
        product=Text(),
        type=Choice(("one_time", "recurring")),
    ),
)
def list_(context: Context, params: Params) -> Record:
    """Return prices, newest first."""
    keys = params.get("lookup_keys")
    product = params.get("product")
    exact = {
        name: params[name] for name in ("active", "currency", "type") if name in params
    }

    def matches(record: Record) -> bool:
        return (not keys or record["lookup_key"] in keys) and all(
            record[name] == value for name, value in exact.items()
        )

    return page(
        context.store,
        "price",
        URL,
        params,
        index=("product", product) if product else None,
        where=matches,
    )


@resource.get(f"{URL}/{{id}}", Shape())
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return a price. Raises a 404."""
    return context.get("price", id)


@resource.post(f"{URL}/{{id}}", Shape(UPDATE_FIELDS))
def update(context: Context, params: Params, id: str) -> Record:
    """Update a price; amount and interval are immutable. Raises a 400 or a 404."""
    context.get("price", id)
    lookup_key = params.get("lookup_key")
    if lookup_key:
        _release_lookup_key(context, lookup_key, params, owner=id)
    with context.update("price", id, "price.updated") as price:
        copy_params(price, params, "active", "lookup_key", "nickname", "tax_behavior")
        if "metadata" in params:
            price["metadata"] = merge_metadata(price["metadata"], params["metadata"])
    return context.get("price", id)


def plan_of(price: Record) -> dict[str, Any]:
    """Return the legacy plan object for a recurring price."""
    recurring = price["recurring"]
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "meter": None,
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": recurring["usage_type"],
    }


def _check_interval(recurring: Params | None) -> None:
    """Raise a 400 for an interval over three years. The error text is assumed."""
    if recurring is None:
        return
    maximum = MAX_INTERVALS[recurring["interval"]]
    if recurring.get("interval_count", 1) > maximum:
        raise invalid(
            "The interval of a price is at most three years: `interval_count` is at "
            f"most {maximum} for `{recurring['interval']}`.",
            param="recurring[interval_count]",
        )


def _product(context: Context, params: Params) -> Record:
    if "product_data" in params:
        return products.add(context, params["product_data"])
    return context.get_referenced("product", params["product"], "product")


def _release_lookup_key(
    context: Context, lookup_key: str, params: Params, owner: str | None = None
) -> None:
    """Unset the key on another price if `transfer_lookup_key`, else raise a 400."""
    holder = next(context.store.scan("price", index=("lookup_key", lookup_key)), None)
    if holder is None or holder["id"] == owner:
        return
    if not params.get("transfer_lookup_key"):
        raise invalid(
            f"A price (`{holder['id']}`) already uses that lookup key.",
            param="lookup_key",
        )
    with context.update("price", holder["id"], "price.updated") as price:
        price["lookup_key"] = None


def _new_price(context: Context, params: Params, product: str) -> dict[str, Any]:
    requested = params.get("recurring")
    recurring = requested and {
        "interval": requested["interval"],
        "interval_count": requested.get("interval_count", 1),
        "meter": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }
    return {
        "id": context.ids.new("price"),
        "object": "price",
        "active": params.get("active", True),
        "billing_scheme": "per_unit",
        "created": context.now,
        "currency": params["currency"],
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": params.get("lookup_key"),
        "metadata": new_metadata(params),
        "nickname": params.get("nickname"),
        "product": product,
        "recurring": recurring,
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if recurring else "one_time",
        "unit_amount": params["unit_amount"],
        "unit_amount_decimal": amount_decimal(params["unit_amount"]),
    }
