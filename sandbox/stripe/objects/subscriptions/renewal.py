"""Timers of a subscription: first invoice, renewals, expiry while incomplete.

Source: docs pages "How subscriptions work" and "Subscription invoices". The first
invoice is finalized at once under `charge_automatically`, an hour later under
`send_invoice`; an incomplete subscription expires after 23 hours.
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import StripeError, invalid
from sandbox.stripe.api.routing import Timer
from sandbox.stripe.clock.periods import Period, period_at
from sandbox.stripe.money import currencies
from sandbox.stripe.objects.fields import quantity_text
from sandbox.stripe.objects.invoices import collection, lifecycle, pay, payment_records
from sandbox.stripe.objects.payments import payment_intents
from sandbox.stripe.objects.schemas.invoice import line_parent, new_line
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import cancel, prorations
from sandbox.stripe.store.records import Record

INCOMPLETE_LIFETIME = 23 * 3_600
UPDATED = "customer.subscription.updated"


def bill_items(
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
    for item, line in zip(items, lines, strict=True):
        item["billed_until"] = item["current_period_end"]
        price = prorations.full_price(context, item)
        item["_debits"] = [
            prorations.debit_record(item, price, line=line["id"], invoice=invoice["id"])
        ]
    return invoice


def start(
    context: Context,
    subscription: dict[str, Any],
    *,
    behavior: str,
    off_session: bool,
) -> None:
    """Bill the first period of a new subscription that is not stored yet.

    With the payment behavior `error_if_incomplete`, raises a 400 without a payment
    method and a 402 if the charge fails. Without a method, `allow_incomplete` starts
    incomplete, as in the API reference ("if the first invoice can't be paid"); some
    users report a 400 there too.
    """
    invoice = bill_items(
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
    if behavior == "default_incomplete":
        return
    method = collection.payment_method(context, first, subscription)
    if method is None and behavior == "error_if_incomplete":
        raise _no_payment_method()
    if method is None:
        return
    if pay.attempt(
        context, first["id"], method, off_session=off_session, automatic=True
    ):
        subscription["status"] = "active"
        collection.save_default_payment_method(subscription, method)
    elif behavior == "error_if_incomplete":
        raise payment_failure(context, first["id"])


def payment_failure(context: Context, invoice: str) -> StripeError:
    """Return the error for an unpaid invoice; raising it rolls the request back."""
    id = payment_records.get_intent_id(context, context.get("invoice", invoice))
    intent = context.get("payment_intent", id)
    challenged = intent["status"] == "requires_action"
    if not challenged and intent["last_payment_error"] is None:
        return _no_payment_method()
    return payment_intents.failure_error(
        context,
        id,
        code="subscription_payment_intent_requires_action",
        committed=False,
    )


def _no_payment_method() -> StripeError:
    return invalid(
        "This customer has no attached payment source or default payment method. "
        "Please consider adding a default payment method. For more information, visit "
        "https://stripe.com/docs/billing/subscriptions/payment-methods-setting"
        "#payment-method-priority.",
        code="resource_missing",
    )


def renew(context: Context, id: str) -> None:
    """Move items whose period has ended to their next period, and bill it."""
    with context.update("subscription", id, UPDATED) as subscription:
        # With several intervals, the other items renew at their own time.
        ended = [
            item
            for item in subscription["_items"]
            if item["current_period_end"] <= context.now
        ]
        started = min(item["current_period_start"] for item in ended)
        for item in ended:
            _advance(context, subscription, item)
        bill_items(
            context,
            subscription,
            ended,
            reason="subscription_cycle",
            period=Period(started, context.now),
        )


def expire(context: Context, id: str) -> None:
    """Expire an incomplete subscription and void its first invoice."""
    subscription = context.get("subscription", id)
    invoice = context.get("invoice", subscription["latest_invoice"])
    if invoice["status"] == "open":
        lifecycle.void(context, invoice["id"])
    with context.update("subscription", id, UPDATED) as draft:
        draft.update(status="incomplete_expired", ended_at=context.now)


def next_period_end(subscription: Record) -> int:
    """Return the earliest end of the items' current periods."""
    return min(int(item["current_period_end"]) for item in subscription["_items"])


def _advance(context: Context, subscription: Record, item: dict[str, Any]) -> None:
    recurring = context.get("price", item["price"])["recurring"]
    period = period_at(
        subscription["billing_cycle_anchor"],
        recurring["interval"],
        recurring["interval_count"],
        item["current_period_end"],
    )
    item.update(current_period_start=period.start, current_period_end=period.end)


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
    )


def line_description(context: Context, price: Record, quantity: int) -> str:
    """Return an invoice line's description: "2 × Basic (at $10.00 / month)"."""
    name = context.get("product", price["product"])["name"]
    recurring = price["recurring"]
    count = recurring["interval_count"]
    every = (
        f"every {count} {recurring['interval']}s"
        if count > 1
        else f"/ {recurring['interval']}"
    )
    unit = currencies.text(price["unit_amount"], price["currency"])
    return f"{quantity_text(quantity, name)} (at {unit} {every})"


def _due_at(subscription: Record) -> int | None:
    if subscription["status"] in ENDED:
        return None
    if subscription["status"] == "incomplete":
        return int(subscription["created"]) + INCOMPLETE_LIFETIME
    cancel_at: int | None = subscription["cancel_at"]
    return min(
        next_period_end(subscription), cancel_at or next_period_end(subscription)
    )


def _run(context: Context, subscription: Record) -> None:
    id = subscription["id"]
    if subscription["status"] == "incomplete":
        expire(context, id)
    # Before a renewal due at the same time: no further period is billed.
    elif subscription["cancel_at"] and subscription["cancel_at"] <= context.now:
        cancel.cancel_as_scheduled(context, id)
    else:
        renew(context, id)


TIMER = Timer(_due_at, _run)
