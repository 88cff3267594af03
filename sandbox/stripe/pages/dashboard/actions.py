"""Actions of the forms on the status page, and on those of objects."""

import json
from collections.abc import Callable, Mapping

from sandbox.common.fields import BadField
from sandbox.common.html.form import Form
from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import StripeError
from sandbox.stripe.app import StripeApp
from sandbox.stripe.clock import periods
from sandbox.stripe.objects.catalog import prices
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.invoices import invoices, pay
from sandbox.stripe.objects.invoices.paused_collection import BEHAVIORS
from sandbox.stripe.objects.payments import charges
from sandbox.stripe.objects.reversals import disputes, refunds
from sandbox.stripe.objects.subscriptions import subscriptions
from sandbox.stripe.store.records import Record

STEPS = ("1 hour", "1 day", "1 month")
SECONDS = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 7 * 86_400}
UNITS = (*SECONDS, "month")
MAX_SECONDS = 10 * 366 * 86_400


def advance(app: StripeApp, form: Form) -> None:
    """Move the clock by a step, by an amount of a unit, or to the next due time."""
    # One lock for both: "to the next due time" is relative to the time that was read.
    with app.lock:
        now = app.clock.now()
        app.advance(_seconds(app, form, now))


def change_setting(app: StripeApp, form: Form) -> None:
    """Change one setting; the value is JSON or a plain word. Raises BadField."""
    text = form.get("value", "")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    app.change_settings({form.get("name", ""): value})


def refund(app: StripeApp, form: Form) -> None:
    """Refund what is left of a charge. Raises BadField."""
    _change_charge(app, form, refunds.issue)


def dispute(app: StripeApp, form: Form) -> None:
    """Open the dispute of a charge. Raises BadField."""
    _change_charge(app, form, disputes.open_dispute)


def close_dispute(app: StripeApp, form: Form) -> None:
    """Win or lose a dispute. Raises BadField."""
    outcome: disputes.Outcome = "won" if form.get("outcome") == "won" else "lost"
    id = form.get("id", "")
    _transact(app, lambda context: disputes.close(context, id, outcome))


def end_discount(app: StripeApp, form: Form) -> None:
    """Remove a discount from its customer or subscription. Raises BadField."""
    id = form.get("id", "")
    if not discounts.live(app.store, [id]):
        raise BadField("This discount has ended.")
    _transact(app, lambda context: discounts.end_and_update_owner(context, id))


def settle(app: StripeApp, form: Form) -> None:
    """End a pending refund, or a bank debit. Raises BadField."""
    id, failed = form.get("id", ""), form.get("outcome") != "succeeded"

    def work(context: Context) -> None:
        if context.store.get(refunds.KIND, id):
            reason = "declined" if failed else None
            refunds.settle(context, id, failure_reason=reason)
        else:
            pay.settle(context, id, failure="account_closed" if failed else None)

    _transact(app, work)


def pause_collection(app: StripeApp, form: Form) -> None:
    """Pause the collection of a subscription's invoices, or end it. Raises BadField."""
    id, behavior = form.get("id", ""), form.get("outcome")
    pause = {"behavior": behavior} if behavior in BEHAVIORS else None
    changes = {"pause_collection": pause}
    _transact(app, lambda context: subscriptions.update(context, changes, id))


def hold(app: StripeApp, form: Form) -> None:
    """Hold a draft, or let it advance. Raises BadField."""
    id, changes = form.get("id", ""), {"auto_advance": form.get("outcome") != "hold"}
    _transact(app, lambda context: invoices.update(context, changes, id))


def archive(app: StripeApp, form: Form) -> None:
    """Archive a price, or make it active again. Raises BadField."""
    id, changes = form.get("id", ""), {"active": form.get("outcome") != "archive"}
    _transact(app, lambda context: prices.update(context, changes, id))


#: Function of each action, and the notice on the page after it.
ACTIONS: Mapping[str, tuple[Callable[[StripeApp, Form], None], str]] = {
    "advance": (advance, "The clock was moved to {now} UTC."),
    "reset": (
        lambda app, form: app.reset(),
        "Everything was reset. The time is {now} UTC again.",
    ),
    "pause": (lambda app, form: app.deliveries.pause(), "Webhooks are paused."),
    "resume": (
        lambda app, form: app.deliveries.pause(False),
        "Webhooks are delivered again.",
    ),
    "clear-faults": (lambda app, form: app.clear_faults(), "All faults were cleared."),
    "settings": (change_setting, "The setting was changed."),
    "refund": (refund, "The charge was refunded."),
    "dispute": (dispute, "A dispute was opened."),
    "close-dispute": (close_dispute, "The dispute was closed."),
    "pause-collection": (pause_collection, "The subscription was changed."),
    "hold": (hold, "The draft was changed."),
    "archive": (archive, "The price was changed."),
    "end-discount": (end_discount, "The discount was removed."),
    "settle": (settle, "The outcome was recorded."),
}


def _change_charge(
    app: StripeApp, form: Form, change: Callable[[Context, Record], Record]
) -> None:
    id = form.get("id", "")
    _transact(app, lambda context: change(context, context.get(charges.KIND, id)))


def _transact(app: StripeApp, work: Callable[[Context], object]) -> None:
    try:
        app.transact(work)
    except StripeError as error:
        raise BadField(str(error)) from error


def _seconds(app: StripeApp, form: Form, now: int) -> int:
    step = form.get("step") or f"{form.get('amount')} {form.get('unit')}"
    if step == "next":
        return max(0, (app.scheduler.next_at() or now) - now)
    count, _, unit = step.partition(" ")
    if not (count.isascii() and count.isdigit()) or unit not in UNITS:
        raise BadField("Enter a whole number of minutes, hours, days, weeks or months.")
    seconds = _duration(now, int(count), unit) if len(count) < 7 else MAX_SECONDS + 1
    if seconds > MAX_SECONDS:
        raise BadField("The clock can be moved by at most ten years at once.")
    return seconds


def _duration(now: int, count: int, unit: str) -> int:
    if unit != "month":
        return count * SECONDS[unit]
    # 121 months exceed the maximum; more could end after year 9999, which is no date.
    return periods.add(now, "month", min(count, 121)) - now
