"""An invoice in time: finalization, retries, due date, and giving up.

Sources: docs pages "Automate payment retries" and "Billing collection methods".
"""

from collections.abc import Callable
from dataclasses import dataclass

from sandbox.stripe.context import Context
from sandbox.stripe.cycle import DAY
from sandbox.stripe.objects import (
    collection,
    invoice_lifecycle,
    invoice_payment,
    subscription_end,
)
from sandbox.stripe.objects.invoice_shape import subscription_of
from sandbox.stripe.objects.subscription_shape import ENDED
from sandbox.stripe.resource import Timer
from sandbox.stripe.store import Record

# Stripe offers 30, 60 or 90 days after an invoice that was sent is past due.
SENT_GIVES_UP_AFTER = 30 * DAY


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that comes to an invoice by itself; running it must silence it."""

    at: Callable[[Record], int | None]
    run: Callable[[Context, Record], None]


def _retry_at(invoice: Record) -> int | None:
    waits = invoice["status"] == "open" and collection.collects_itself(invoice)
    at: int | None = invoice["next_payment_attempt"] if waits else None
    return at


def _retry(context: Context, invoice: Record) -> None:
    """Charge again, unless only the card is left whose issuer wants no more of it."""
    method = collection.payment_method(context, invoice)
    if method is None or method == invoice.get("_refused"):
        invoice_payment.skip(context, invoice["id"])
    else:
        invoice_payment.attempt(context, invoice["id"], method, automatic=True)


def _due_date(invoice: Record) -> int | None:
    """Return when an open invoice falls due; a draft may be finalized after that."""
    waits = invoice["status"] == "open" and not invoice.get("_passed_due")
    due: int | None = invoice["due_date"] if waits else None
    if due is None:
        return None
    return max(due, int(invoice["status_transitions"]["finalized_at"]))


def _pass_due_date(context: Context, invoice: Record) -> None:
    """Note that the due date has passed; what follows is counted from now."""
    days = context.settings.overdue_after_days
    with context.update("invoice", invoice["id"]) as draft:
        draft.update(
            _passed_due=True,
            _overdue_at=context.now + days * DAY if days else None,
            _gives_up_at=context.now + SENT_GIVES_UP_AFTER,
        )
    collection.on_past_due_date(context, context.get("invoice", invoice["id"]))


def _overdue_at(invoice: Record) -> int | None:
    at: int | None = invoice.get("_overdue_at") if invoice["status"] == "open" else None
    return at


def _say_overdue(context: Context, invoice: Record) -> None:
    with context.update("invoice", invoice["id"]) as draft:
        draft["_overdue_at"] = None
    context.emit("invoice.overdue", context.get("invoice", invoice["id"]))


def _gives_up_at(invoice: Record) -> int | None:
    waits = invoice["status"] == "open" and invoice["auto_advance"]
    at: int | None = invoice.get("_gives_up_at") if waits else None
    return at


def _give_up(context: Context, invoice: Record) -> None:
    """Do with the subscription what the account is set to do.

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
        subscription_end.cancel(context, subscription["id"], reason="payment_failed")
    elif outcome == "unpaid":
        collection.set_status(context, subscription["id"], "unpaid")


ALARMS = (
    Alarm(invoice_lifecycle.TIMER.due_at, invoice_lifecycle.TIMER.run),
    Alarm(_retry_at, _retry),
    Alarm(_due_date, _pass_due_date),
    Alarm(_overdue_at, _say_overdue),
    Alarm(_gives_up_at, _give_up),
)


def _first(invoice: Record) -> tuple[int, Alarm] | None:
    times = [(at, alarm) for alarm in ALARMS if (at := alarm.at(invoice)) is not None]
    return min(times, key=lambda pair: pair[0], default=None)


def _due_at(invoice: Record) -> int | None:
    first = _first(invoice)
    return first[0] if first else None


def _run(context: Context, invoice: Record) -> None:
    first = _first(invoice)
    if first is not None:
        first[1].run(context, invoice)


TIMER = Timer(_due_at, _run)
