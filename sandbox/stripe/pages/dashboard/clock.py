"""Top of the status page: the clock, its controls, and links to the sections."""

import time

from sandbox.common.html.elements import Child, Html, tag
from sandbox.stripe.pages.dashboard.actions import STEPS, UNITS
from sandbox.stripe.pages.dashboard.selection import Scope
from sandbox.stripe.pages.text import duration, long_moment, moment, object_link, plural

RESET_QUESTION = (
    "Delete all objects, events, faults and requests, and return to real time?"
)
SECTIONS = {
    "customers": "Customers",
    "subscriptions": "Subscriptions",
    "invoices": "Invoices",
    "events": "Events",
    "requests": "Requests",
    "webhooks": "Webhooks",
    "faults": "Faults",
    "settings": "Settings",
    "kinds": "Other objects",
}


def banner(scope: Scope, message: Html) -> Html:
    """Return the clock, its controls, and links to the sections."""
    now = scope.app.clock.now()
    real = tag("p", "As of ", moment(int(time.time())), " UTC, real time", id="as-of")
    return tag(
        "header",
        tag("div", tag("h1", tag("a", "Sandbox Stripe", href="/")), real, class_="top"),
        tag("div", _clock(scope, now, message), _controls(scope), class_="clock"),
        None if scope.view.id or scope.view.kind else _section_links(),
        class_="banner",
    )


def _clock(scope: Scope, now: int, message: Html) -> Html:
    offset = scope.app.clock.offset
    ahead = f"{duration(offset)} ahead of real time" if offset else "in real time"
    return tag(
        "div",
        tag("p", tag("time", long_moment(now)), tag("span", "UTC"), class_="now"),
        # A live region: screen readers announce jumps of the clock, not every second.
        tag("p", ahead, id="offset", aria_live="polite"),
        tag("p", _next_due(scope, now), id="next", class_="soft"),
        tag(
            "div",
            tag("p", _warnings(scope), id="warnings", aria_live="polite"),
            message,
            class_="news",
        ),
    )


def _next_due(scope: Scope, now: int) -> Child:
    first = scope.app.scheduler.peek()
    if first is None:
        return "Nothing is due."
    at, id = first
    return ("Next due: ", object_link(id), " in ", duration(max(0, at - now)))


def _warnings(scope: Scope) -> Child:
    app = scope.app
    faults = len(app.faults.list()) + len(app.webhook_faults.list())
    paused = scope.app.deliveries.settings.paused
    warnings = (
        _warning("webhooks", "webhooks are paused") if paused else None,
        _warning("faults", f"{plural(faults, 'fault')} active") if faults else None,
    )
    return [warning for warning in warnings if warning]


def _warning(section: str, text: str) -> Html:
    return tag("a", text, href=f"/#{section}", class_="badge warn")


def _controls(scope: Scope) -> Html:
    return tag(
        "div",
        _steps(scope),
        tag("div", _custom_step(scope), _pause(scope), _reset(scope)),
        class_="controls",
    )


def _steps(scope: Scope) -> Html:
    nothing_due = scope.app.scheduler.peek() is None
    return form(
        scope,
        "advance",
        tag("span", "Advance", class_="label", id="advance-by"),
        [_step(f"+ {step}", step) for step in STEPS],
        _step("To the next due time", "next", disabled=nothing_due),
        group="advance-by",
    )


def _step(label: str, value: str, *, disabled: bool = False) -> Html:
    id = f"step-{value.replace(' ', '-')}"
    return tag("button", label, name="step", value=value, id=id, disabled=disabled)


def _custom_step(scope: Scope) -> Html:
    options = [
        tag("option", f"{unit}s", value=unit, selected=unit == "day") for unit in UNITS
    ]
    return form(
        scope,
        "advance",
        tag("label", "Advance by", for_="amount"),
        tag(
            "input",
            type="number",
            name="amount",
            id="amount",
            min=1,
            max=9_999,
            value=3,
            required=True,
        ),
        tag("label", "Unit", for_="unit", class_="hidden"),
        tag("select", options, name="unit", id="unit"),
        tag("button", "Go", id="step-free", aria_label="Advance by the given time"),
    )


def _pause(scope: Scope) -> Html:
    paused = scope.app.deliveries.settings.paused
    action, label = (
        ("resume", "Resume webhooks") if paused else ("pause", "Pause webhooks")
    )
    return form(
        scope,
        action,
        tag("button", label, id="webhooks-switch", class_="paused" if paused else None),
        id="webhooks-form",
    )


def _reset(scope: Scope) -> Html:
    confirm = tag("button", "Yes, delete everything", id="reset-now", class_="danger")
    return tag(
        "details",
        tag("summary", "Reset…", id="reset"),
        tag("div", tag("p", RESET_QUESTION), form(scope, "reset", confirm)),
        class_="confirm",
        id="reset-confirm",
    )


def form(
    scope: Scope,
    action: str,
    *body: Child,
    group: str | None = None,
    id: str | None = None,
) -> Html:
    """Return a form that posts an action and returns to the current view."""
    query = scope.view.query()
    target = f"/_pages/{action}?{query}" if query else f"/_pages/{action}"
    role = "group" if group else None
    return tag(
        "form",
        body,
        method="post",
        action=target,
        role=role,
        aria_labelledby=group,
        id=id,
    )


def _section_links() -> Html:
    links = [
        tag("li", tag("a", title, href=f"#{name}")) for name, title in SECTIONS.items()
    ]
    return tag("nav", tag("ul", links), aria_label="Sections")
