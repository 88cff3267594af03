"""Prorations: credit for unused time, debit for the remaining time after a change.

Source: docs pages "Prorations" and "Billing mode" (flexible). Prorations are to the
second. A credit is the unused part of what was debited, computed from the exact value
of the debit, not from its rounded amount; otherwise rounding errors would accumulate.

Discounts: "any existing discounts are applied when proration is calculated" (docs page
"Coupons"); a credit returns what was debited after discounts, with the tax rates of
the debit (docs page "Compare billing modes"). An `amount_off` is spread over all items
of the subscription, and its share prorated with the price (assumed).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.routing import Params
from sandbox.stripe.clock.periods import Period
from sandbox.stripe.money.rounding import prorate
from sandbox.stripe.objects.discounts.discounts import of_subscription, shares
from sandbox.stripe.objects.fields import quantity_text
from sandbox.stripe.objects.invoices import items
from sandbox.stripe.objects.schemas import invoice_amounts
from sandbox.stripe.store.records import Record


def date_of(context: Context, subscription: Record, params: Params, param: str) -> int:
    """Return the `proration_date`, or the present. Raises a 400 outside the period.

    Source: SDK, Invoice.create_preview ("within the current subscription period"); the
    message is assumed.
    """
    at: int = params.get("proration_date", context.now)
    for item in subscription["_items"] if "proration_date" in params else ():
        if not item["current_period_start"] <= at < item["current_period_end"]:
            raise invalid(
                "The `proration_date` must be in the current period.", param=param
            )
    return at


def full_price(context: Context, item: Record) -> int:
    """Return the price of the item for a full period."""
    price = context.get("price", item["price"])
    return int(price["unit_amount"] * item["quantity"])


def set_debit(
    item: dict[str, Any],
    amount: int,
    *,
    invoice_item: str | None = None,
    line: Record | None = None,
    discounts: Sequence[str] = (),
    start: int | None = None,
) -> None:
    """Record the debit for the item's current period, the base of later credits.

    It can `start` later than the period.
    """
    item["_debits"] = [
        {
            "amount": amount,
            "discounts": list(discounts),
            "end": item["current_period_end"],
            "invoice": line and line["invoice"],
            "invoice_item": invoice_item,
            "line": line and line["id"],
            "price": item["price"],
            "quantity": item["quantity"],
            "start": item["current_period_start"] if start is None else start,
        }
    ]


def create_credits(
    context: Context, subscription: Record, item: Record, *, since: int | None = None
) -> None:
    """Create the credits for an item's time from now on, or since an earlier time.

    A change with `proration_behavior=none` has no debit, so the price before that
    change is credited (docs page "Prorations", "Calculation logic with no prorations").
    """
    for debit in item["_debits"]:
        # A debit whose period is over has no unused time.
        if debit["end"] > context.now:
            _create_credit(context, subscription, item, debit, since)


def _create_credit(
    context: Context,
    subscription: Record,
    item: Record,
    debit: Record,
    since: int | None,
) -> None:
    line = _line_of(context, debit)
    amount, discounts = debit["amount"], debit["discounts"]
    # Staff can have changed the discounts of the draft.
    if line and not debit["invoice_item"]:
        amount = invoice_amounts.net_amount(line)
        discounts = [entry["discount"] for entry in line["discount_amounts"]]
    _create(
        context,
        subscription,
        item,
        -amount,
        "Unused",
        source=debit,
        credited=_credited_items(debit, line),
        since=since and max(since, debit["start"]),
        discounts=discounts,
        tax_rates=item["_tax_rates"] or None
        if line is None
        else invoice_amounts.tax_rates_of(line),
    )


def create_debit(context: Context, subscription: Record, item: dict[str, Any]) -> None:
    """Create the debit for an item's time from now on, and record it on the item."""
    ids = of_subscription(context, subscription)
    price = _discounted_price(context, subscription, item, ids)
    created = _create(
        context,
        subscription,
        item,
        price,
        "Remaining",
        source=item,
        discounts=ids,
        tax_rates=item["_tax_rates"] or None,
    )
    # The full price, not the prorated amount: credits are computed from it exactly.
    set_debit(
        item,
        price,
        invoice_item=created["id"],
        discounts=ids,
        start=context.now,
    )


def _discounted_price(
    context: Context, subscription: Record, item: Record, ids: Sequence[str]
) -> int:
    """Return the price of an item for a full period after discounts."""
    items = subscription["_items"]
    prices = [full_price(context, each) for each in items]
    number = [each["id"] for each in items].index(item["id"])
    taken = shares(context.store, ids, prices).values()
    return prices[number] - sum(by_item[number] for by_item in taken)


def _line_of(context: Context, debit: Record) -> Record | None:
    """Return the invoice line of a debit, or None while it is pending."""
    item = context.store.get("invoiceitem", debit["invoice_item"] or "")
    if item:
        invoice = context.store.get("invoice", item["invoice"] or "")
        return items.line_on(invoice, item["id"]) if invoice else None
    invoice = context.store.get("invoice", debit["invoice"] or "")
    lines = invoice["_lines"] if invoice else ()
    return next((line for line in lines if line["id"] == debit["line"]), None)


def _credited_items(debit: Record, line: Record | None) -> dict[str, Any] | None:
    """Return `credited_items` (SDK, InvoiceItem.ProrationDetails).

    It is the debit's invoice item while that is pending, afterwards its invoice line.
    """
    if line:
        details = {"invoice": line["invoice"], "invoice_line_items": [line["id"]]}
        return {"invoice_line_item_details": details, "type": "invoice_line_items"}
    item = debit["invoice_item"]
    return {"invoice_item": item, "type": "invoice_item"} if item else None


def _create(
    context: Context,
    subscription: Record,
    item: Record,
    full_amount: int,
    kind: str,
    *,
    source: Record,
    discounts: Sequence[str],
    tax_rates: Sequence[str] | None,
    credited: dict[str, Any] | None = None,
    since: int | None = None,
) -> Record:
    """Create the proration of an amount for a full period, from now on."""
    at = context.now if since is None else since
    start, end = item["current_period_start"], item["current_period_end"]
    price = context.get("price", source["price"])
    product, quantity = context.get("product", price["product"]), source["quantity"]
    name = (
        product["name"] if quantity == 1 else quantity_text(quantity, product["name"])
    )
    day = datetime.fromtimestamp(at, UTC).strftime("%d %b %Y")
    return items.add(
        context,
        customer=subscription["customer"],
        amount=prorate(full_amount, start=start, end=end, at=at),
        currency=subscription["currency"],
        description=f"{kind} time on {name} after {day}",
        period=Period(at, end),
        subscription=subscription["id"],
        item=item["id"],
        price=price,
        quantity=quantity,
        details={
            "credited_items": credited,
            "discount_amounts": invoice_amounts.unapplied(discounts),
        },
        tax_rates=tax_rates,
    )
