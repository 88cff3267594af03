"""Status page: the clock and its controls, and the contents of the account."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from sandbox.common.html.elements import Child, Html, document, join, tag
from sandbox.stripe import settings
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.pages.dashboard import objects, traffic
from sandbox.stripe.pages.dashboard.clock import banner, form
from sandbox.stripe.pages.dashboard.json_view import json_view
from sandbox.stripe.pages.dashboard.query import View
from sandbox.stripe.pages.dashboard.selection import Scope, find_object
from sandbox.stripe.pages.table import section
from sandbox.stripe.pages.text import object_link
from sandbox.stripe.store.records import Record

if TYPE_CHECKING:
    from sandbox.stripe.app import StripeApp

SECTIONS: tuple[Callable[[Scope], Html], ...] = (
    objects.customers,
    objects.subscriptions,
    objects.invoices,
    traffic.events,
    traffic.requests,
    traffic.webhooks,
)


def page(app: "StripeApp", view: View, *, notice: str = "", error: str = "") -> Html:
    """Return the page for a view, with the notice or error of the last action."""
    with app.lock:
        scope = Scope(app, view)
        body = join(
            (
                tag("a", "Skip to the content", href="#content", class_="skip"),
                banner(scope, _message(notice, error)),
                tag("main", _content(scope), id="content"),
            )
        )
    return document(_title(view), "status.css", body, script="status.js")


def is_missing(app: "StripeApp", view: View) -> bool:
    """Return whether the view names an object or type that does not exist."""
    with app.lock:
        unknown_id = bool(view.id) and find_object(app.store, view.id) is None
    return unknown_id or bool(view.kind and view.kind not in REGISTRY.by_name)


def _title(view: View) -> str:
    subject = view.id or view.kind or view.customer
    return f"{subject} · Sandbox Stripe" if subject else "Sandbox Stripe"


def _message(notice: str, error: str) -> Html:
    return tag(
        "div",
        tag("p", notice, class_="notice") if notice else None,
        tag("p", error, class_="error", role="alert") if error else None,
        id="message",
        role="status",
    )


def _content(scope: Scope) -> Child:
    if scope.view.id:
        return _object(scope, scope.view.id)
    if scope.view.kind:
        return (_back(), _kind(scope, scope.view.kind))
    if scope.matches is not None and scope.customer is None:
        return (_filter(scope), objects.customers(scope))
    sections = tag(
        "div",
        [render(scope) for render in SECTIONS],
        traffic.faults(
            scope, form(scope, "clear-faults", tag("button", "Clear all faults"))
        ),
        _settings(scope),
        objects.other_kinds(scope),
        class_="sections",
    )
    return (_filter(scope), sections)


def _filter(scope: Scope) -> Html:
    search = tag(
        "form",
        tag("label", "Customer", for_="customer"),
        tag(
            "input",
            type="search",
            name="customer",
            id="customer",
            value=scope.view.customer or None,
            placeholder="id, e-mail, name or metadata",
        ),
        tag("button", "Filter"),
        tag("a", "Show all", href="/") if scope.view.customer else None,
        action="/",
        class_="filter",
        role="search",
    )
    return tag(
        "div",
        search,
        tag("p", _filter_result(scope), id="filter-result", aria_live="polite"),
    )


def _filter_result(scope: Scope) -> Child:
    if scope.matches is None:
        return None
    if scope.customer is not None:
        return (
            "Only ",
            tag("strong", scope.name(scope.customer)),
            " ",
            object_link(scope.customer),
        )
    if not scope.matches:
        return f"No customer matches “{scope.view.customer}”."
    return "Several customers match; choose one."


def _object(scope: Scope, id: str) -> Child:
    record = find_object(scope.store, id)
    if record is None:
        return (
            _back(),
            tag("h2", id),
            tag("p", "There is no such object.", class_="empty"),
        )
    content = REGISTRY.render(scope.store, record)
    kind = str(record["object"]).replace("_", " ").capitalize()
    return (
        _back(),
        section(
            "object",
            f"{kind} {id}",
            _customer_filter(scope, record),
            _hosted_page(record),
            json_view(scope.store, content),
        ),
        traffic.events(scope),
        traffic.requests(scope),
    )


def _customer_filter(scope: Scope, record: Record) -> Child:
    customer = (
        record["id"] if record["object"] == "customer" else record.get("customer")
    )
    if not customer:
        return None
    return tag("p", "All objects of ", objects.customer_link(scope, customer))


def _hosted_page(record: Record) -> Html | None:
    link = objects.hosted_link(record, objects.CUSTOMER_PAGE)
    return tag("p", link) if link else None


def _kind(scope: Scope, kind: str) -> Html:
    if kind not in REGISTRY.by_name:
        return tag("p", f"There are no objects called “{kind}”.", class_="empty")
    return objects.of_kind(scope, kind)


def _back() -> Html:
    return tag("p", tag("a", "← The whole account", href="/"), class_="back")


def _settings(scope: Scope) -> Html:
    values = asdict(settings.read(scope.store))
    items = [
        (tag("dt", name), tag("dd", json.dumps(value)))
        for name, value in values.items()
    ]
    names = [tag("option", name, value=name) for name in values]
    change = form(
        scope,
        "settings",
        tag("label", "Setting", for_="setting"),
        tag("select", names, name="name", id="setting"),
        tag("label", "Value as JSON", for_="value"),
        tag("input", name="value", id="value", required=True, autocomplete="off"),
        tag("button", "Change"),
    )
    return section("settings", "Settings", tag("dl", items), change, wide=False)
