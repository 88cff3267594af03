"""Coupons (docs: API reference, Coupons).

A deleted coupon can no longer be redeemed; its discounts go on (SDK, Coupon.delete).
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid, missing
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import (
    Choice,
    Integer,
    Metadata,
    Percentage,
    Range,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.fields import (
    CURRENCY,
    check_amount,
    copy_params,
    new_metadata,
    nulls,
)
from sandbox.stripe.store.records import Record

KIND = "coupon"
URL = "/v1/coupons"
OBJECT_URL = f"{URL}/{{id}}"
CREATE = Shape(
    {
        "amount_off": Integer(1),
        "currency": CURRENCY,
        "duration": Choice(("forever", "once", "repeating")),
        "duration_in_months": Integer(1, 120),
        "id": Text(max_length=200),
        "max_redemptions": Integer(1),
        "metadata": Metadata(),
        "name": Text(max_length=40),
        "percent_off": Percentage(above=0),
        "redeem_by": Integer(0),
    }
)
COPIED = (
    "amount_off currency duration_in_months max_redemptions name percent_off redeem_by"
)


# No coupon here is for certain products only.
resource = Resource(KIND, includable={"applies_to": lambda store, coupon: None})


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Create a coupon, with the given id if any. Raises a 400."""
    duration = params.get("duration", "once")
    _check(params, duration)
    if "id" in params and _find(context, params["id"]):
        raise invalid(
            "Coupon already exists.", param="id", code="resource_already_exists"
        )
    coupon: dict[str, Any] = {
        **context.new(KIND, "coupon", 8),
        **nulls(COPIED),
        "duration": duration,
        "metadata": new_metadata(params),
        "times_redeemed": 0,
        "valid": True,
    }
    coupon["id"] = coupon["id"].partition("_")[2]
    copy_params(coupon, params, "id", *COPIED.split())
    return context.insert(coupon, "coupon.created")


@resource.get(URL, listing(created=Range()))
def list_(context: Context, params: Params) -> Record:
    """Return coupons, newest first."""
    return page(
        context.store,
        KIND,
        URL,
        params,
        where=lambda coupon: not coupon.get("_deleted"),
    )


@resource.get(OBJECT_URL, Shape())
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return a coupon. Raises a 404, also for a deleted one."""
    return _get(context, id)


@resource.post(OBJECT_URL, Shape({"metadata": Metadata(), "name": Text()}))
def update(context: Context, params: Params, id: str) -> Record:
    """Update metadata and name; the discount cannot change. Raises a 404."""
    _get(context, id)
    with context.update(KIND, id, "coupon.updated") as coupon:
        copy_params(coupon, params, "metadata", "name")
    return coupon


@resource.delete(OBJECT_URL, Shape())
def delete(context: Context, params: Params, id: str) -> Record:
    """Delete a coupon; its discounts go on. Raises a 404."""
    context.emit("coupon.deleted", _get(context, id))
    context.change(KIND, id, _deleted=True, valid=False)
    return {"id": id, "object": KIND, "deleted": True}


def redeem(context: Context, id: str, currency: str | None, param: str) -> Record:
    """Count a redemption and return the coupon. Raises a 400 if it is not valid."""
    coupon = _find(context, id)
    if coupon is None:
        raise missing(KIND, id, param=param, status=400)
    if not coupon["valid"] or (coupon["redeem_by"] or context.now) < context.now:
        raise invalid(f"Coupon expired: {id}", param=param, code="coupon_expired")
    if currency and coupon["currency"] not in (None, currency):
        raise invalid(
            f"The coupon `{id}` is in `{coupon['currency']}` and can't be applied to "
            f"an object in `{currency}`.",
            param=param,
        )
    redeemed = coupon["times_redeemed"] + 1
    is_used_up = redeemed == coupon["max_redemptions"]
    return context.change(KIND, id, times_redeemed=redeemed, valid=not is_used_up)


def _check(params: Params, duration: str) -> None:
    """Raise a 400 unless the parameters are complete and do not contradict."""
    if ("amount_off" in params) == ("percent_off" in params):
        raise invalid("You must pass either `percent_off` or `amount_off`.")
    if ("amount_off" in params) != ("currency" in params):
        raise invalid("`amount_off` and `currency` go together.", param="currency")
    if (duration == "repeating") != ("duration_in_months" in params):
        raise invalid(
            "`duration_in_months` is required for `duration` `repeating`, and only "
            "for it.",
            param="duration_in_months",
        )
    if "amount_off" in params:
        check_amount(params["amount_off"], params["currency"], "amount_off")


def _find(context: Context, id: str) -> Record | None:
    coupon = context.store.get(KIND, id)
    return None if coupon is None or coupon.get("_deleted") else coupon


def _get(context: Context, id: str) -> Record:
    coupon = _find(context, id)
    if coupon is None:
        raise missing(KIND, id)
    return coupon
