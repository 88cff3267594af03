"""Prorations: credit for what is not used any more, debit for what is instead.

Source: docs pages "Prorations" and "Billing mode": to the second; in flexible mode
a credit is the unused share of what was debited, in classic mode of the item's
current value. Credits are shares of the exact value of the debit, not of its rounded
amount, so that rounding does not add up.
"""

from datetime import UTC, datetime
from typing import Any

from sandbox.stripe.context import Context
from sandbox.stripe.cycle import Period
from sandbox.stripe.money import prorate
from sandbox.stripe.objects import invoice_items
from sandbox.stripe.objects.fields import times
from sandbox.stripe.store import Record


def value(context: Context, item: Record) -> int:
    """Return the price of the item for a whole period."""
    price = context.get("price", item["price"])
    return int(price["unit_amount"] * item["quantity"])


def debit_of(
    item: Record,
    amount: int,
    *,
    invoice_item: str | None = None,
    line: str | None = None,
    invoice: str | None = None,
) -> dict[str, Any]:
    """Return what was billed for the item's current period, for later credits."""
    return {
        "amount": amount,
        "end": item["current_period_end"],
        "invoice": invoice,
        "invoice_item": invoice_item,
        "line": line,
        "price": item["price"],
        "quantity": item["quantity"],
        "start": item["current_period_start"],
    }


def credit(context: Context, subscription: Record, item: Record, at: int) -> None:
    """Create the credits for the item's time from a moment on."""
    for debit in _billed(subscription, item, value(context, item), at):
        _create(
            context,
            subscription,
            item,
            prorate(-debit["amount"], start=debit["start"], end=debit["end"], at=at),
            f"Unused time on {_what(context, debit)} after {_day(at)}",
            at=at,
            billed=debit,
            credited=_credited(context, debit),
        )


def debit(
    context: Context, subscription: Record, item: dict[str, Any], at: int
) -> None:
    """Create the debit for the item's period from a moment on, and remember it."""
    whole = value(context, item)
    start, end = item["current_period_start"], item["current_period_end"]
    created = _create(
        context,
        subscription,
        item,
        prorate(whole, start=start, end=end, at=at),
        f"Remaining time on {_what(context, item)} after {_day(at)}",
        at=at,
        billed=item,
    )
    item["_debits"] = [debit_of(item, whole, invoice_item=created["id"])]


def _billed(
    subscription: Record, item: Record, whole: int, at: int
) -> list[dict[str, Any]]:
    """Return the debits to credit.

    What changed with `proration_behavior=none` was not debited, so flexible mode
    credits what was before (docs page "Prorations", "Calculation logic with no
    prorations").
    """
    if subscription["billing_mode"]["type"] == "classic":
        return [debit_of(item, whole)]
    return [debit for debit in item["_debits"] if debit["end"] > at]


def _credited(context: Context, debit: dict[str, Any]) -> dict[str, Any] | None:
    """Return `credited_items`: the debit's invoice item while that is pending, else
    its line (SDK, InvoiceItem.ProrationDetails).
    """
    invoice, line = debit["invoice"], debit["line"]
    item = context.store.get("invoiceitem", debit["invoice_item"] or "")
    if item and item["invoice"]:
        invoice = item["invoice"]
        line = invoice_items.line_on(context.get("invoice", invoice), item["id"])
    if line is None and item is None:
        return None
    return {
        "invoice_item": item["id"] if item and line is None else None,
        "invoice_line_item_details": line
        and {"invoice": invoice, "invoice_line_items": [line]},
        "type": "invoice_line_items" if line else "invoice_item",
    }


def _create(
    context: Context,
    subscription: Record,
    item: Record,
    amount: int,
    description: str,
    *,
    at: int,
    billed: Record,
    credited: dict[str, Any] | None = None,
) -> Record:
    flexible = subscription["billing_mode"]["type"] == "flexible"
    return invoice_items.add(
        context,
        customer=subscription["customer"],
        amount=amount,
        currency=subscription["currency"],
        description=description,
        period=Period(at, item["current_period_end"]),
        subscription=subscription["id"],
        item=item["id"],
        price=context.get("price", billed["price"]),
        quantity=billed["quantity"],
        proration=True,
        details={"credited_items": credited, "discount_amounts": []}
        if flexible
        else None,
    )


def _what(context: Context, billed: Record) -> str:
    price = context.get("price", billed["price"])
    name = context.get("product", price["product"])["name"]
    quantity = billed["quantity"]
    return times(quantity, name) if quantity != 1 else str(name)


def _day(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%d %b %Y")
