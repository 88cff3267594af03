"""Timers of an invoice: finalization, due date, end of collection.

Sources: docs pages "Automate payment retries" and "Billing collection methods".
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.routing import Timer
from sandbox.stripe.clock.periods import DAY
from sandbox.stripe.objects.invoices import collection, lifecycle
from sandbox.stripe.objects.schemas.invoice import subscription_of
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import cancel
from sandbox.stripe.store.records import Record

# For `send_invoice` Stripe offers 30, 60 or 90 days after the due date.
GIVE_UP_AFTER_DUE_DATE = 30 * DAY


def _due_date(invoice: Record) -> int | None:
    """Return the due date of an open invoice, or None once it was handled."""
    pending = invoice["status"] == "open" and not invoice.get("_passed_due")
    due: int | None = invoice["due_date"] if pending else None
    if due is None:
        return None
    # A draft can be finalized after its due date: timers must not run in the past.
    return max(due, int(invoice["status_transitions"]["finalized_at"]))


def _pass_due_date(context: Context, invoice: Record) -> None:
    """Make the subscription past due; later deadlines count from now."""
    days = context.settings.overdue_after_days
    with context.update("invoice", invoice["id"]) as draft:
        draft.update(
            _passed_due=True,
            _overdue_at=context.now + days * DAY if days else None,
            _gives_up_at=context.now + GIVE_UP_AFTER_DUE_DATE,
        )
    collection.on_past_due_date(context, context.get("invoice", invoice["id"]))


def _overdue_at(invoice: Record) -> int | None:
    at: int | None = invoice.get("_overdue_at") if invoice["status"] == "open" else None
    return at


def _emit_overdue(context: Context, invoice: Record) -> None:
    with context.update("invoice", invoice["id"]) as draft:
        draft["_overdue_at"] = None
    context.emit("invoice.overdue", context.get("invoice", invoice["id"]))


def _gives_up_at(invoice: Record) -> int | None:
    active = invoice["status"] == "open" and invoice["auto_advance"]
    at: int | None = invoice.get("_gives_up_at") if active else None
    return at


def _give_up(context: Context, invoice: Record) -> None:
    """Apply the account's `after_last_retry` setting to the subscription.

    Assumed: only while automatic collection is on, and for the newest invoice.
    """
    with context.update("invoice", invoice["id"]) as draft:
        draft["_gives_up_at"] = None
    id, outcome = subscription_of(invoice), context.settings.after_last_retry
    subscription = context.store.get("subscription", id) if id else None
    if subscription is None or subscription["status"] in ENDED:
        return
    if not collection.is_latest(context, subscription["id"], invoice):
        return
    if outcome == "canceled":
        cancel.cancel(context, subscription["id"], reason="payment_failed")
    elif outcome == "unpaid":
        collection.set_status(context, subscription["id"], "unpaid")


# Each must clear its own time when it runs, else the scheduler would run it forever.
TIMERS = (
    lifecycle.TIMER,
    Timer(_due_date, _pass_due_date),
    Timer(_overdue_at, _emit_overdue),
    Timer(_gives_up_at, _give_up),
)


def _next_timer(invoice: Record) -> tuple[int, Timer] | None:
    times = [
        (at, timer) for timer in TIMERS if (at := timer.due_at(invoice)) is not None
    ]
    return min(times, key=lambda pair: pair[0], default=None)


def _due_at(invoice: Record) -> int | None:
    following = _next_timer(invoice)
    return following[0] if following else None


def _run(context: Context, invoice: Record) -> None:
    following = _next_timer(invoice)
    if following is not None:
        following[1].run(context, invoice)


TIMER = Timer(_due_at, _run)
