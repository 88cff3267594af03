"""Timers of an invoice: finalization, due date, end of collection.

Sources: docs pages "Automate payment retries" and "Billing collection methods".
"""

from collections.abc import Callable, Iterator

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.routing import Timer
from sandbox.stripe.clock.periods import DAY
from sandbox.stripe.objects.invoices import collection, lifecycle, paused_collection
from sandbox.stripe.objects.schemas.invoice import subscription_of
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import cancel
from sandbox.stripe.store.records import Record

Action = Callable[[Context, Record], None]
# For `send_invoice` Stripe offers 30, 60 or 90 days after the due date.
GIVE_UP_AFTER_DUE_DATE = 30 * DAY


def _pass_due_date(context: Context, invoice: Record) -> None:
    """Make the subscription past due; later deadlines count from now."""
    days = context.settings.overdue_after_days
    changed = context.change(
        "invoice",
        invoice["id"],
        _passed_due=True,
        _overdue_at=context.now + days * DAY if days else None,
        _gives_up_at=context.now + GIVE_UP_AFTER_DUE_DATE,
    )
    collection.make_past_due(context, changed)
    collection.set_delinquent(context, invoice["customer"], True)


def _emit_overdue(context: Context, invoice: Record) -> None:
    changed = context.change("invoice", invoice["id"], _overdue_at=None)
    context.emit("invoice.overdue", changed)


def _give_up(context: Context, invoice: Record) -> None:
    """Apply the account's `after_last_retry` setting to the subscription.

    Assumed: only while automatic collection is on, and for the newest invoice.
    """
    context.change("invoice", invoice["id"], _gives_up_at=None)
    id, outcome = subscription_of(invoice), context.settings.after_last_retry
    subscription = context.store.get("subscription", id) if id else None
    # A paused one stays so (docs page "Pause subscriptions").
    if subscription is None or subscription["status"] in {*ENDED, "paused"}:
        return
    if not collection.is_latest(context, subscription["id"], invoice):
        return
    if outcome == "canceled":
        cancel.cancel(context, subscription["id"], reason="payment_failed")
    elif outcome == "unpaid":
        collection.set_status(context, subscription["id"], "unpaid")


def _open_timers(invoice: Record) -> Iterator[tuple[int | None, Action]]:
    """Yield the due times of an open invoice, or None, with their actions.

    Each action must clear its own time, else the scheduler would run it forever.
    """
    due = invoice["due_date"]
    if due is not None and not invoice.get("_passed_due"):
        # A draft can be finalized after its due date: no timer runs in the past.
        yield max(due, invoice["status_transitions"]["finalized_at"]), _pass_due_date
    yield invoice.get("_overdue_at"), _emit_overdue
    if invoice["auto_advance"]:
        yield invoice.get("_gives_up_at"), _give_up


def _next_timer(invoice: Record) -> tuple[int, Action] | None:
    if (at := paused_collection.acts_at(invoice)) is not None:
        return at, paused_collection.act
    if invoice["status"] != "open":
        at = lifecycle.TIMER.due_at(invoice)
        return None if at is None else (at, lifecycle.TIMER.run)
    timers = [(at, run) for at, run in _open_timers(invoice) if at is not None]
    return min(timers, key=lambda timer: timer[0], default=None)


def _due_at(invoice: Record) -> int | None:
    timer = _next_timer(invoice)
    return timer and timer[0]


def _run(context: Context, invoice: Record) -> None:
    if timer := _next_timer(invoice):
        timer[1](context, invoice)


TIMER = Timer(_due_at, _run)
