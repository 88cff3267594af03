"""Prorations: credit for unused time, debit for the remaining time after a change.

Source: docs pages "Prorations" and "Billing mode". Prorations are to the second. In
flexible mode a credit is the unused part of what was debited, in classic mode of the
item's current price. A credit is computed from the exact value of the debit, not from
its rounded amount; otherwise rounding errors would accumulate.
"""

from datetime import UTC, datetime
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.clock.periods import Period
from sandbox.stripe.money.rounding import prorate
from sandbox.stripe.objects.fields import quantity_text
from sandbox.stripe.objects.invoices import items
from sandbox.stripe.store.records import Record


def full_price(context: Context, item: Record) -> int:
    """Return the price of the item for a full period."""
    price = context.get("price", item["price"])
    return int(price["unit_amount"] * item["quantity"])


def debit_record(
    item: Record,
    amount: int,
    *,
    invoice_item: str | None = None,
    line: str | None = None,
    invoice: str | None = None,
) -> dict[str, Any]:
    """Return the record of a debit for the current period, kept for later credits."""
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


def create_credits(
    context: Context, subscription: Record, item: Record, at: int
) -> None:
    """Create the credits for an item's time from `at` on."""
    for debit in _debits_to_credit(subscription, item, full_price(context, item), at):
        _create(
            context,
            subscription,
            item,
            prorate(-debit["amount"], start=debit["start"], end=debit["end"], at=at),
            f"Unused time on {_item_name(context, debit)} after {_day(at)}",
            at=at,
            source=debit,
            credited=_credited_items(context, debit),
        )


def create_debit(
    context: Context, subscription: Record, item: dict[str, Any], at: int
) -> None:
    """Create the debit for an item's time from `at` on, and record it on the item."""
    price = full_price(context, item)
    start, end = item["current_period_start"], item["current_period_end"]
    invoice_item = _create(
        context,
        subscription,
        item,
        prorate(price, start=start, end=end, at=at),
        f"Remaining time on {_item_name(context, item)} after {_day(at)}",
        at=at,
        source=item,
    )
    # The full price, not the prorated amount: credits are computed from it exactly.
    item["_debits"] = [debit_record(item, price, invoice_item=invoice_item["id"])]


def _debits_to_credit(
    subscription: Record, item: Record, price: int, at: int
) -> list[dict[str, Any]]:
    """Return the debits to credit.

    A change with `proration_behavior=none` has no debit, so flexible mode credits the
    price before that change (docs page "Prorations", "Calculation logic with no
    prorations").
    """
    if subscription["billing_mode"]["type"] == "classic":
        return [debit_record(item, price)]
    # A debit whose period is over has no unused time.
    return [debit for debit in item["_debits"] if debit["end"] > at]


def _credited_items(context: Context, debit: dict[str, Any]) -> dict[str, Any] | None:
    """Return `credited_items` (SDK, InvoiceItem.ProrationDetails).

    It is the debit's invoice item while that is pending, afterwards its invoice line.
    """
    invoice, line = debit["invoice"], debit["line"]
    item = context.store.get("invoiceitem", debit["invoice_item"] or "")
    if item and item["invoice"]:
        invoice = item["invoice"]
        line = items.line_id_on(context.get("invoice", invoice), item["id"])
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
    source: Record,
    credited: dict[str, Any] | None = None,
) -> Record:
    flexible = subscription["billing_mode"]["type"] == "flexible"
    return items.add(
        context,
        customer=subscription["customer"],
        amount=amount,
        currency=subscription["currency"],
        description=description,
        period=Period(at, item["current_period_end"]),
        subscription=subscription["id"],
        item=item["id"],
        price=context.get("price", source["price"]),
        quantity=source["quantity"],
        proration=True,
        details={"credited_items": credited, "discount_amounts": []}
        if flexible
        else None,
    )


def _item_name(context: Context, source: Record) -> str:
    price = context.get("price", source["price"])
    name = context.get("product", price["product"])["name"]
    quantity = source["quantity"]
    return quantity_text(quantity, name) if quantity != 1 else str(name)


def _day(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%d %b %Y")
