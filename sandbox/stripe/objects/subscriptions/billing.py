"""Drafts for the items of a subscription, and for its pending prorations."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.clock.periods import Period
from sandbox.stripe.money import currencies
from sandbox.stripe.objects.fields import quantity_text
from sandbox.stripe.objects.invoices import lifecycle, paused_collection
from sandbox.stripe.objects.invoices.collection import UPDATED
from sandbox.stripe.objects.schemas.invoice import line_parent, new_line
from sandbox.stripe.objects.schemas.invoice_amounts import net_amount
from sandbox.stripe.objects.subscriptions import prorations
from sandbox.stripe.store.records import Record


def bill(
    context: Context,
    subscription: dict[str, Any],
    items: list[dict[str, Any]],
    *,
    reason: str,
    period: Period,
) -> Record | None:
    """Create a draft for the items' current period, and record their debits."""
    lines = [_line(context, subscription, item) for item in items]
    invoice = lifecycle.bill_subscription(
        context, subscription, lines, reason=reason, period=period
    )
    if invoice is None:
        return None
    subscription["latest_invoice"] = invoice["id"]
    by_id = {line["id"]: line for line in invoice["_lines"]}
    for item, unpriced in zip(items, lines, strict=True):
        line = by_id[unpriced["id"]]
        item["billed_until"] = item["current_period_end"]
        prorations.set_debit(
            item, net_amount(line), line=line, discounts=invoice["discounts"]
        )
    return invoice


def _line(context: Context, subscription: Record, item: Record) -> dict[str, Any]:
    price = context.get("price", item["price"])
    return new_line(
        context,
        amount=prorations.full_price(context, item),
        currency=subscription["currency"],
        description=line_description(context, price, item["quantity"]),
        period=Period(item["current_period_start"], item["current_period_end"]),
        parent=line_parent(
            subscription=subscription["id"], subscription_item=item["id"]
        ),
        price=price,
        quantity=item["quantity"],
        metadata=dict(subscription["metadata"]),
        tax_rates=item["_tax_rates"] or None,
    )


def line_description(context: Context, price: Record, quantity: int) -> str:
    """Return an invoice line's description: "2 × Basic (at $10.00 / month)"."""
    name = context.get("product", price["product"])["name"]
    unit = currencies.text(price["unit_amount"], price["currency"])
    interval = price["recurring"]["interval"]
    return f"{quantity_text(quantity, name)} (at {unit} / {interval})"


def bill_pending(context: Context, id: str) -> None:
    """Bill and finalize the pending prorations of a subscription."""
    period = Period(context.now, context.now)
    with context.update("subscription", id, UPDATED) as subscription:
        invoice = lifecycle.bill_subscription(context, subscription, period=period)
        if invoice:
            subscription["latest_invoice"] = invoice["id"]
    if invoice and not paused_collection.apply(context, subscription, invoice):
        lifecycle.finalize(context, invoice["id"])
