"""Prorations: credit for unused time, debit for the remaining time after a change.

Source: docs pages "Prorations" and "Billing mode" (flexible). Prorations are to the
second. A credit is the unused part of what was debited, computed from the exact value
of the debit, not from its rounded amount; otherwise rounding errors would accumulate.
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


def set_debit(
    item: dict[str, Any],
    amount: int,
    *,
    invoice_item: str | None = None,
    line: str | None = None,
    invoice: str | None = None,
) -> None:
    """Record the debit for the item's current period, the base of later credits."""
    item["_debits"] = [
        {
            "amount": amount,
            "end": item["current_period_end"],
            "invoice": invoice,
            "invoice_item": invoice_item,
            "line": line,
            "price": item["price"],
            "quantity": item["quantity"],
            "start": item["current_period_start"],
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
            _create(
                context,
                subscription,
                item,
                -debit["amount"],
                "Unused",
                source=debit,
                credited=_credited_items(context, debit),
                since=since,
            )


def create_debit(context: Context, subscription: Record, item: dict[str, Any]) -> None:
    """Create the debit for an item's time from now on, and record it on the item."""
    price = full_price(context, item)
    created = _create(context, subscription, item, price, "Remaining", source=item)
    # The full price, not the prorated amount: credits are computed from it exactly.
    set_debit(item, price, invoice_item=created["id"])


def _credited_items(context: Context, debit: Record) -> dict[str, Any] | None:
    """Return `credited_items` (SDK, InvoiceItem.ProrationDetails).

    It is the debit's invoice item while that is pending, afterwards its invoice line.
    """
    invoice, line = debit["invoice"], debit["line"]
    item = context.store.get("invoiceitem", debit["invoice_item"] or "")
    if item and item["invoice"]:
        invoice = item["invoice"]
        line = items.line_id_on(context.get("invoice", invoice), item["id"])
    if line:
        details = {"invoice": invoice, "invoice_line_items": [line]}
        return {"invoice_line_item_details": details, "type": "invoice_line_items"}
    return {"invoice_item": item["id"], "type": "invoice_item"} if item else None


def _create(
    context: Context,
    subscription: Record,
    item: Record,
    full_amount: int,
    kind: str,
    *,
    source: Record,
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
        details={"credited_items": credited, "discount_amounts": []},
    )
