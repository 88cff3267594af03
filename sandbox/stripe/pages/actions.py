"""What the buttons of the status page do."""

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sandbox.stripe import cycle, settings
from sandbox.stripe.pages.forms import Form

if TYPE_CHECKING:
    from sandbox.stripe.app import StripeApp

STEPS = ("1 hour", "1 day", "1 month")
SECONDS = {"minute": 60, "hour": 3_600, "day": 86_400, "week": 7 * 86_400}
UNITS = (*SECONDS, "month")
LONGEST = 10 * 366 * 86_400


class BadForm(ValueError):
    """A form that makes no sense."""


def advance(app: "StripeApp", form: Form) -> None:
    """Move the clock by a step, by an amount of a unit, or to what is due next."""
    with app.lock:
        now = app.clock.now()
        app.advance(_seconds(app, form, now))


def reset(app: "StripeApp", form: Form) -> None:
    """Forget everything."""
    app.reset()


def pause(app: "StripeApp", form: Form) -> None:
    """Hold deliveries back."""
    app.deliveries.settings.paused = True


def resume(app: "StripeApp", form: Form) -> None:
    """Let deliveries go on."""
    app.deliveries.settings.paused = False
    app.deliveries.wake()


def clear_faults(app: "StripeApp", form: Form) -> None:
    """Remove every fault."""
    app.faults.clear()
    app.webhook_faults.clear()


def change_setting(app: "StripeApp", form: Form) -> None:
    """Change one setting, to a value in JSON or to a word. Raises BadForm."""
    text = form.get("value", "")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    try:
        app.change_settings({form.get("name", ""): value})
    except settings.BadSetting as error:
        raise BadForm(str(error)) from None


#: What each button does, and what the page then says.
ACTIONS: Mapping[str, tuple[Callable[["StripeApp", Form], None], str]] = {
    "advance": (advance, "The clock went forward to {now} UTC."),
    "reset": (reset, "Everything is forgotten. It is {now} UTC again."),
    "pause": (pause, "Webhooks are held back."),
    "resume": (resume, "Webhooks are delivered again."),
    "clear-faults": (clear_faults, "No faults are in force."),
    "settings": (change_setting, "The setting is changed."),
}


def _seconds(app: "StripeApp", form: Form, now: int) -> int:
    step = form.get("step") or f"{form.get('amount')} {form.get('unit')}"
    if step == "next":
        return max(0, (app.scheduler.next_at() or now) - now)
    count, _, unit = step.partition(" ")
    if not (count.isascii() and count.isdigit()) or unit not in UNITS:
        raise BadForm("The clock moves by a whole number of minutes, hours, days, …")
    seconds = _length(now, int(count), unit) if len(count) < 7 else LONGEST + 1
    if seconds > LONGEST:
        raise BadForm("The clock moves by ten years at most.")
    return seconds


def _length(now: int, count: int, unit: str) -> int:
    if unit != "month":
        return count * SECONDS[unit]
    # Months that end after year 9999 are no dates.
    return cycle.add(now, "month", min(count, 121)) - now
