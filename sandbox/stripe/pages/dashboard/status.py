"""Status page: the clock and its controls, and the contents of the account."""

import json
import re
import time
from dataclasses import asdict
from typing import Any

from sandbox.common.html.responses import html
from sandbox.common.html.templates import environment
from sandbox.common.http import Response
from sandbox.stripe import settings
from sandbox.stripe.api.context import DELIVERY
from sandbox.stripe.app import StripeApp
from sandbox.stripe.money import currencies
from sandbox.stripe.objects.registry import REGISTRY
from sandbox.stripe.pages.dashboard import rows
from sandbox.stripe.pages.dashboard.actions import STEPS, UNITS
from sandbox.stripe.pages.dashboard.query import MAX_ROWS, PAGE_SIZE, View
from sandbox.stripe.pages.dashboard.selection import MAX_SEARCHED, Scope, find_object
from sandbox.stripe.store.records import Store

# Types with a section of their own.
HAVE_SECTION = frozenset(
    {"customer", "event", "invoice", "subscription", "webhook_endpoint"}
)
TIMES = re.compile(r"(_at|_end|_start|_date|_anchor|^created|^updated|^start|^end)$")


def page(app: StripeApp, view: View, *, notice: str = "", error: str = "") -> Response:
    """Return the page for a view, with the notice or error of the last action."""
    with app.lock:
        scope = Scope(app, view)
        name, data = _content(scope)
        data |= _banner(scope) | {"scope": scope, "notice": notice, "error": error}
        text = TEMPLATES.get_template(f"dashboard/{name}.html").render(data)
    return html(400 if error else 404 if name == "missing" else 200, text)


def _banner(scope: Scope) -> dict[str, Any]:
    app = scope.app
    now, first = app.clock.now(), app.scheduler.peek()
    return {
        "real_time": int(time.time()),
        "now": now,
        "offset": app.clock.offset,
        "next_due": first and {"id": first[1], "seconds": max(0, first[0] - now)},
        "paused": app.deliveries.paused,
        "faults": app.faults.list() + app.webhook_faults.list(),
    }


def _content(scope: Scope) -> tuple[str, dict[str, Any]]:
    """Return the name of the template for the view, and its data."""
    if scope.view.id:
        return _object(scope, scope.view.id)
    if scope.view.kind:
        return _kind(scope, scope.view.kind)
    customers = [rows.customer(scope.store, record) for record in scope.customers()]
    if scope.matches is not None and scope.customer is None:
        return "choice", {"customers": customers}
    return "account", {"customers": customers, **_account(scope), **_traffic(scope)}


def _account(scope: Scope) -> dict[str, Any]:
    store = scope.store
    subscriptions = scope.newest("subscription", "subscriptions")
    invoices = scope.newest("invoice", "invoices")
    endpoints = store.scan("webhook_endpoint")
    deliveries = [rows.delivery(store, record) for record in scope.deliveries()]
    return {
        "subscriptions": [rows.subscription(store, record) for record in subscriptions],
        "invoices": [rows.invoice(store, record) for record in invoices],
        "endpoints": [{**e, "pending": scope.pending(e["id"])} for e in endpoints],
        "deliveries": deliveries,
        "delivery_count": scope.count(DELIVERY, len(deliveries), "deliveries"),
        "settings": asdict(settings.read(store)),
        "kinds": _kinds(store),
    }


def _traffic(scope: Scope) -> dict[str, Any]:
    events = [rows.event(record) for record in scope.events()]
    return {"events": events, "requests": scope.requests()}


def _kinds(store: Store) -> dict[str, int]:
    return {
        kind: count
        for kind, count in store.counts().items()
        if count and kind in REGISTRY.by_name and kind not in HAVE_SECTION
    }


def _object(scope: Scope, id: str) -> tuple[str, dict[str, Any]]:
    record = find_object(scope.store, id)
    if record is None:
        return "missing", {}
    content = REGISTRY.render(scope.store, record)
    page = rows.hosted_page(record)
    return "object", {"object": content, "page": page, **_traffic(scope)}


def _kind(scope: Scope, kind: str) -> tuple[str, dict[str, Any]]:
    if kind not in REGISTRY.by_name:
        return "missing", {}
    count = f"{scope.store.count(kind):,}"
    return "kind", {"objects": scope.newest(kind, "objects"), "count": count}


def _kind_name(kind: str) -> str:
    name = kind.replace("invoiceitem", "invoice item")
    return f"{name.replace('_', ' ').replace('.', ' ')}s"


TEMPLATES = environment(
    "sandbox.stripe.pages",
    MAX_ROWS=MAX_ROWS,
    MAX_SEARCHED=MAX_SEARCHED,
    PAGE_SIZE=PAGE_SIZE,
    STEPS=STEPS,
    UNITS=UNITS,
)
TEMPLATES.filters.update(
    json=json.JSONEncoder(ensure_ascii=False).encode,
    kind_name=_kind_name,
    money=currencies.text,
    one_line=rows.one_line,
)
TEMPLATES.tests["time_field"] = TIMES.search
