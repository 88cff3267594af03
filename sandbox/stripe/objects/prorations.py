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
    item: Record, amount: int, *, line: str | None = None, invoice: str | None = None
) -> dict[str, Any]:
    """Return what was billed for the item's current period, for later credits."""
    return {
        "amount": amount,
        "end": item["current_period_end"],
        "invoice": invoice,
        "line": line,
        "price": item["price"],
        "quantity": item["quantity"],
        "start": item["current_period_start"],
    }


def credit(context: Context, subscription: Record, item: Record) -> None:
    """Create the credits for the item's unused time."""
    for debit in _billed(context, subscription, item):
        amount = -prorate(
            debit["amount"], start=debit["start"], end=debit["end"], at=context.now
        )
        _create(
            context,
            subscription,
            item,
            amount,
            f"Unused time on {_what(context, debit)} after {_day(context.now)}",
            price=debit["price"],
            quantity=debit["quantity"],
            credited=debit["invoice"]
            and {
                "invoice": debit["invoice"],
                "invoice_line_items": [debit["line"]],
            },
        )


def debit(context: Context, subscription: Record, item: dict[str, Any]) -> None:
    """Create the debit for the rest of the item's period, and remember it."""
    whole = value(context, item)
    amount = prorate(
        whole,
        start=item["current_period_start"],
        end=item["current_period_end"],
        at=context.now,
    )
    _create(
        context,
        subscription,
        item,
        amount,
        f"Remaining time on {_what(context, item)} after {_day(context.now)}",
        price=item["price"],
        quantity=item["quantity"],
    )
    item["_debits"] = [debit_of(item, whole)]


def _billed(
    context: Context, subscription: Record, item: Record
) -> list[dict[str, Any]]:
    if subscription["billing_mode"]["type"] == "classic":
        return [debit_of(item, value(context, item))]
    return [debit for debit in item["_debits"] if debit["end"] > context.now]


def _create(
    context: Context,
    subscription: Record,
    item: Record,
    amount: int,
    description: str,
    *,
    price: str,
    quantity: int,
    credited: dict[str, Any] | None = None,
) -> None:
    invoice_items.add(
        context,
        customer=subscription["customer"],
        amount=amount,
        currency=subscription["currency"],
        description=description,
        period=Period(context.now, item["current_period_end"]),
        subscription=subscription["id"],
        item=item["id"],
        price=context.get("price", price),
        quantity=quantity,
        proration=True,
        credited=credited,
    )


def _what(context: Context, billed: Record) -> str:
    price = context.get("price", billed["price"])
    name = context.get("product", price["product"])["name"]
    quantity = billed["quantity"]
    return times(quantity, name) if quantity != 1 else str(name)


def _day(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%d %b %Y")
