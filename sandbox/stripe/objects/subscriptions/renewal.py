"""Timers of a subscription: first invoice, renewals, expiry while incomplete.

Source: docs pages "How subscriptions work" and "Subscription invoices". The first
invoice is finalized at once under `charge_automatically`, an hour later under
`send_invoice`; an incomplete subscription expires after 23 hours.
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.routing import Timer
from sandbox.stripe.clock.periods import Period, period_at
from sandbox.stripe.money import currencies
from sandbox.stripe.objects.fields import quantity_text
from sandbox.stripe.objects.invoices import collection, lifecycle, pay
from sandbox.stripe.objects.schemas.invoice import line_parent, new_line
from sandbox.stripe.objects.schemas.invoice_amounts import net_amount
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import cancel, prorations
from sandbox.stripe.store.records import Record

INCOMPLETE_LIFETIME = 23 * 3_600
UPDATED = "customer.subscription.updated"


def start(context: Context, subscription: dict[str, Any]) -> None:
    """Bill the first period of a new subscription that is not stored yet.

    Without a payment method it starts incomplete, as in the API reference ("if the
    first invoice can't be paid"); some users report a 400 there.
    """
    invoice = _bill(
        context,
        subscription,
        subscription["_items"],
        reason="subscription_create",
        period=Period(context.now, context.now),
    )
    if invoice is None or subscription["collection_method"] == "send_invoice":
        return
    # No retries: the first invoice is paid within 23 hours or voided.
    first = lifecycle.finalize(context, invoice["id"], auto_advance=False)
    if first["status"] == "paid":
        return
    subscription["status"] = "incomplete"
    method = collection.payment_method(context, first, subscription)
    if method and pay.attempt(
        context, first["id"], method, off_session=False, automatic=True
    ):
        subscription["status"] = "active"


def _bill(
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


def _renew(context: Context, id: str) -> None:
    """Move items whose period has ended to their next period, and bill it."""
    with context.update("subscription", id, UPDATED) as subscription:
        anchor = subscription["billing_cycle_anchor"]
        # With several intervals, the other items renew at their own time.
        ended = [
            item
            for item in subscription["_items"]
            if item["current_period_end"] <= context.now
        ]
        started = min(item["current_period_start"] for item in ended)
        for item in ended:
            interval = context.get("price", item["price"])["recurring"]["interval"]
            start, end = period_at(anchor, interval, item["current_period_end"])
            item.update(current_period_start=start, current_period_end=end)
        _bill(
            context,
            subscription,
            ended,
            reason="subscription_cycle",
            period=Period(started, context.now),
        )


def _expire(context: Context, id: str) -> None:
    """Expire an incomplete subscription and void its first invoice."""
    subscription = context.get("subscription", id)
    invoice = context.get("invoice", subscription["latest_invoice"])
    if invoice["status"] == "open":
        lifecycle.void(context, invoice["id"])
    ended = {"status": "incomplete_expired", "ended_at": context.now}
    context.change("subscription", id, UPDATED, **ended)


def _due_at(subscription: Record) -> int | None:
    if subscription["status"] in ENDED:
        return None
    if subscription["status"] == "incomplete":
        return int(subscription["created"]) + INCOMPLETE_LIFETIME
    due: int = min(item["current_period_end"] for item in subscription["_items"])
    return min(due, subscription["cancel_at"] or due)


def _run(context: Context, subscription: Record) -> None:
    id = subscription["id"]
    if subscription["status"] == "incomplete":
        _expire(context, id)
    # Before a renewal due at the same time: no further period is billed.
    elif subscription["cancel_at"] and subscription["cancel_at"] <= context.now:
        cancel.cancel_as_scheduled(context, id)
    else:
        _renew(context, id)


TIMER = Timer(_due_at, _run)
