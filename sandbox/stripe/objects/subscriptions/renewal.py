"""Timers of a subscription: first invoice, renewals, expiry while incomplete.

Source: docs pages "How subscriptions work" and "Subscription invoices". The first
invoice is finalized at once under `charge_automatically`, an hour later under
`send_invoice`; an incomplete subscription expires after 23 hours.
"""

from collections.abc import Callable
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.routing import Timer
from sandbox.stripe.clock.periods import Period, period_at
from sandbox.stripe.objects.invoices import (
    collection,
    lifecycle,
    paused_collection,
    pay,
)
from sandbox.stripe.objects.invoices.collection import UPDATED
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import billing, cancel, resumption
from sandbox.stripe.store.records import Record

Action = Callable[[Context, str], None]
INCOMPLETE_LIFETIME = 23 * 3_600


def start(context: Context, subscription: dict[str, Any]) -> None:
    """Bill the first period of a new subscription that is not stored yet.

    Without a payment method it starts incomplete, as in the API reference ("if the
    first invoice can't be paid"); some users report a 400 there.
    """
    invoice = billing.bill(
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
    if first["status"] != "open":
        return
    subscription["status"] = "incomplete"
    method = collection.payment_method(context, first, subscription)
    if method and pay.attempt(
        context, first["id"], method, off_session=False, automatic=True
    ):
        subscription["status"] = "active"


def renew(context: Context, id: str) -> None:
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
        invoice = billing.bill(
            context,
            subscription,
            ended,
            reason="subscription_cycle",
            period=Period(started, context.now),
        )
    if invoice:
        paused_collection.apply(context, subscription, invoice)


def _expire(context: Context, id: str) -> None:
    """Expire an incomplete subscription and void its first invoice."""
    subscription = context.get("subscription", id)
    invoice = context.get("invoice", subscription["latest_invoice"])
    if invoice["status"] == "open":
        lifecycle.void(context, invoice["id"])
    ended = {"status": "incomplete_expired", "ended_at": context.now}
    context.change("subscription", id, UPDATED, **ended)


def _next_timer(subscription: Record) -> tuple[int, Action] | None:
    """Return the next due time with its action; the first of those due at a time."""
    if subscription["status"] in ENDED:
        return None
    if subscription["status"] == "incomplete":
        return int(subscription["created"]) + INCOMPLETE_LIFETIME, _expire
    timers: list[tuple[int | None, Action]] = [
        # Before a renewal due at the same time: its invoice is collected.
        (
            (subscription["pause_collection"] or {}).get("resumes_at"),
            _resume_collection,
        ),
        # Before a renewal due at the same time: no further period is billed.
        (subscription["cancel_at"], cancel.cancel_as_scheduled),
        (resumption.expires_at(subscription), resumption.expire),
    ]
    if subscription["status"] != "paused":
        ends = [item["current_period_end"] for item in subscription["_items"]]
        timers.append((min(ends), renew))
    due = [(at, action) for at, action in timers if at is not None]
    return min(due, key=lambda timer: timer[0], default=None)


def _resume_collection(context: Context, id: str) -> None:
    context.change("subscription", id, UPDATED, pause_collection=None)


def _due_at(subscription: Record) -> int | None:
    timer = _next_timer(subscription)
    return timer and timer[0]


def _run(context: Context, subscription: Record) -> None:
    if timer := _next_timer(subscription):
        timer[1](context, subscription["id"])


TIMER = Timer(_due_at, _run)
