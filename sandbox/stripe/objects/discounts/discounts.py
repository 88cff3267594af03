"""Discounts: coupons redeemed on a customer, a subscription or an invoice.

Sources: SDK types Discount and Coupon; the parameter `discounts` of subscriptions and
invoices; docs page "Coupons and promotion codes". In this API version no request puts
a discount on a customer, but it can be removed by one:
https://docs.stripe.com/changelog/basil/2025-03-31/deprecate-singular-coupon-promotion-code

`once` is consumed by the first invoice, so a new subscription never shows it:
https://github.com/stripe/stripe-go/issues/944
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid, missing
from sandbox.stripe.api.params import Array, Hash, Text
from sandbox.stripe.api.routing import Params, Resource, Timer, public
from sandbox.stripe.clock import periods
from sandbox.stripe.money.rounding import round_half_away, spread
from sandbox.stripe.objects.catalog import coupons
from sandbox.stripe.store.records import Record, Store

KIND = "discount"
#: A discount of a new coupon, or one of the object or its ancestors; "" removes all.
DISCOUNTS = Array(Hash({"coupon": Text(), "discount": Text()}))
CREATED, DELETED = "customer.discount.created", "customer.discount.deleted"


def _render(store: Store, record: Record) -> dict[str, Any]:
    rendered = public(store, record)
    # The API has neither.
    del rendered["created"], rendered["livemode"]
    return rendered | ({"deleted": True} if record.get("_shows_deleted") else {})


def create(
    context: Context, coupon: Record, customer: str, **owner: str | None
) -> Record:
    """Store a discount of a redeemed coupon. `owner` is its subscription or invoice."""
    months = coupon["duration_in_months"]
    discount: dict[str, Any] = {
        **context.new(KIND, "di"),
        "checkout_session": None,
        "customer": customer,
        "customer_account": None,
        "end": periods.add(context.now, "month", months) if months else None,
        "invoice": owner.get("invoice"),
        "invoice_item": None,
        "promotion_code": None,
        "source": {"coupon": coupon["id"], "type": "coupon"},
        "start": context.now,
        "subscription": owner.get("subscription"),
        "subscription_item": None,
        # The coupon may be deleted.
        "_coupon": coupon,
        "_customer": None if any(owner.values()) else customer,
        "_ended": False,
    }
    return context.insert(discount)


def redeem(
    context: Context,
    requested: Sequence[Params],
    *,
    customer: str,
    currency: str,
    reusable: Sequence[str],
    **owner: str | None,
) -> list[str]:
    """Return the ids of the requested discounts, new or reused. Raises a 400."""
    ids = []
    for number, entry in enumerate(requested):
        param = f"discounts[{number}]"
        if len(entry) != 1:
            raise invalid("Pass either `coupon` or `discount`.", param=param)
        if "discount" in entry:
            if entry["discount"] not in reusable:
                param += "[discount]"
                raise missing(KIND, entry["discount"], param=param, status=400)
            ids.append(entry["discount"])
            continue
        coupon = coupons.redeem(context, entry["coupon"], currency, f"{param}[coupon]")
        discount = create(context, coupon, customer, **owner)
        if "invoice" not in owner:
            context.emit(CREATED, discount)
        ids.append(discount["id"])
    return ids


def redeem_for_subscription(
    context: Context, draft: dict[str, Any], requested: Sequence[Params]
) -> None:
    """Replace the discounts of a subscription draft. Raises a 400."""
    own = live(context.store, draft["_discounts"])
    inherited = of_customer(context.store, draft["customer"])
    draft["_discounts"] = redeem(
        context,
        requested,
        customer=draft["customer"],
        currency=draft["currency"],
        reusable=[*own, *inherited],
        subscription=draft["id"],
    )
    for id in own:
        if id not in draft["_discounts"]:
            end(context, id)


def set_on_customer(context: Context, customer: str, coupon: str) -> Record:
    """Put a coupon on a customer, as only the dashboard can. Raises a 400 or 404.

    Events: docs page "Types of events": a customer that is switched from one coupon to
    another has `customer.discount.updated`.
    """
    context.get_live("customer", customer)
    with context.update("customer", customer, "customer.updated"):
        replaced = of_customer(context.store, customer)
        for id in replaced:
            context.change(KIND, id, _ended=True, _customer=None)
        redeemed = coupons.redeem(context, coupon, None, "coupon")
        discount = create(context, redeemed, customer)
        context.emit(
            "customer.discount.updated" if replaced else CREATED,
            discount,
            {"source": context.get(KIND, replaced[0])["source"]} if replaced else None,
        )
    return discount


def end(context: Context, id: str) -> Record:
    """End a discount. The caller emits the event of its customer or subscription."""
    ended = context.change(KIND, id, _ended=True, _customer=None)
    context.emit(DELETED, ended)
    return ended


def end_and_update_owner(context: Context, id: str) -> Record:
    """End a discount, and emit the update of its subscription or customer."""
    discount = context.get(KIND, id)
    kind = "subscription" if discount["subscription"] else "customer"
    owner = context.store.get(kind, discount[kind])
    if owner is None or owner.get("deleted"):
        return end(context, id)
    event = (
        "customer.updated" if kind == "customer" else "customer.subscription.updated"
    )
    with context.update(kind, owner["id"], event):
        return end(context, id)


def deleted(discount: Record) -> Record:
    """Return the response to the deletion of a discount."""
    return {**discount, "_shows_deleted": True}


def consume(context: Context, invoice: Record, *, updating: str | None = None) -> None:
    """End the discounts for one invoice (`once`) that this invoice has used.

    The caller emits the update of the subscription that it is `updating`, if any.
    """
    used = {
        entry["discount"]
        for line in invoice["_lines"]
        for entry in line["discount_amounts"]
    }
    for id in live(context.store, sorted(used)):
        discount = context.get(KIND, id)
        if discount["_coupon"]["duration"] != "once" or discount["invoice"]:
            continue
        is_updated = updating is not None and discount["subscription"] == updating
        (end if is_updated else end_and_update_owner)(context, id)


def live(store: Store, ids: Sequence[str]) -> list[str]:
    """Return the discounts that have not ended."""
    return [id for id in ids if not (store.get(KIND, id) or {"_ended": True})["_ended"]]


def of_customer(store: Store, customer: str) -> list[str]:
    """Return the discount of a customer, in a list, or an empty list."""
    return [record["id"] for record in store.scan(KIND, index=("_customer", customer))]


def of_subscription(context: Context, subscription: Record) -> list[str]:
    """Return the discounts of a subscription's next invoice.

    Without own ones, that of its customer (SDK, Subscription.create, `discounts`). A
    discount that ends now no longer counts, whatever timer runs first.
    """
    store = context.store
    ids = live(store, subscription["_discounts"]) or of_customer(
        store, subscription["customer"]
    )
    return applicable(context, ids, subscription["currency"])


def applicable(context: Context, ids: Sequence[str], currency: str) -> list[str]:
    """Return the discounts that have not ended and can reduce an amount in a currency.

    A discount of a customer can have another currency (assumed: it is ignored).
    """

    def applies(discount: Record) -> bool:
        at = discount["end"]
        return (at is None or at > context.now) and (
            discount["_coupon"]["currency"] in (None, currency)
        )

    return [id for id in ids if applies(context.get(KIND, id))]


def shares(
    store: Store, ids: Sequence[str], amounts: Sequence[int]
) -> Mapping[str, list[int]]:
    """Return the reduction of each amount by each discount.

    Discounts apply to the sum of the amounts, one after the other (SDK, Coupon: "will
    be taken off the subtotal"), never below zero. Assumed: each is spread over the
    lines in proportion to what is left of them, exact in the sum.
    """
    left, taken = list(amounts), {}
    for id in ids:
        coupon = (store.get(KIND, id) or {})["_coupon"]
        whole = _taken_off(coupon, sum(left))
        taken[id] = spread(whole, left)
        left = [amount - share for amount, share in zip(left, taken[id], strict=True)]
    return taken


def _taken_off(coupon: Record, amount: int) -> int:
    if coupon["percent_off"] is not None:
        return round_half_away(amount * Fraction(str(coupon["percent_off"])) / 100)
    return int(min(coupon["amount_off"], amount))


def _ends_at(discount: Record) -> int | None:
    # A discount of one invoice has no effect later.
    if discount["_ended"] or discount["invoice"]:
        return None
    at: int | None = discount["end"]
    return at


def _expire(context: Context, discount: Record) -> None:
    end_and_update_owner(context, discount["id"])


resource = Resource(
    KIND, indexes=("_customer",), render=_render, timer=Timer(_ends_at, _expire)
)
