"""The tables of what goes in and out: events, deliveries, requests, faults."""

import json
from typing import Any

from sandbox.stripe.context import DELIVERY
from sandbox.stripe.pages.html import Child, Html, tag
from sandbox.stripe.pages.json_view import json_view
from sandbox.stripe.pages.scope import SEARCHED, Scope
from sandbox.stripe.pages.table import Row, more, section, table
from sandbox.stripe.pages.text import NOTHING, badge, moment, object_link
from sandbox.stripe.protocol.http import dump_json
from sandbox.stripe.store import Record

GIST = 160


def events(scope: Scope) -> Html:
    """Return the section of events."""
    rows = [_event(record) for record in scope.events()]
    return section(
        "events",
        "Events",
        table(
            "Events",
            ("Type", "Object", "Time", "Deliveries"),
            rows,
            _none(scope, "events"),
        ),
        more(scope.view, "events", len(rows), "events"),
        count=scope.count("event", len(rows), "events"),
    )


def requests(scope: Scope) -> Html:
    """Return the section of API requests; their parameters unfold."""
    rows = [_request(scope, entry) for entry in scope.requests()]
    columns = ("Request", "Status", "Time", "Idempotency key")
    return section(
        "requests",
        "API requests",
        table("API requests", columns, rows, _none(scope, "requests")),
        more(scope.view, "requests", len(rows), "requests"),
    )


def webhooks(scope: Scope) -> Html:
    """Return the section of webhook endpoints and of what awaits them."""
    endpoints = scope.store.scan("webhook_endpoint")
    rows = [_endpoint(scope, record) for record in endpoints]
    return section(
        "webhooks",
        "Webhooks",
        table(
            "Webhook endpoints",
            ("Endpoint", "Status", "Events", "Pending#"),
            rows,
            "No webhook endpoints.",
        ),
        _pending(scope),
    )


def faults(scope: Scope, clear: Html) -> Html:
    """Return the section of the faults in force, with the button that clears them."""
    app = scope.app
    rows = [
        *(_fault(fault) for fault in app.faults.list()),
        *(_webhook_fault(fault) for fault in app.webhook_faults.list()),
    ]
    body = table("Faults", ("Fault", "Times"), rows, "Nothing goes wrong on order.")
    return section(
        "faults", "Faults in force", body, clear if rows else None, wide=False
    )


def _event(record: Record) -> Row:
    about = json.loads(record["_data"])["object"]
    pending = record["pending_webhooks"]
    return Row(
        record["id"],
        (
            (tag("div", record["type"]), tag("div", object_link(record["id"]))),
            object_link(about["id"]) if "id" in about else about["object"],
            moment(record["created"]),
            tag("span", f"{pending} pending", class_="warn") if pending else NOTHING,
        ),
    )


def _request(scope: Scope, entry: dict[str, Any]) -> Row:
    params = entry["params"]
    return Row(
        entry["id"],
        (
            (
                tag("span", entry["method"], class_="method"),
                tag("span", entry["path"], class_="path"),
            ),
            _status(entry),
            moment(entry["time"]),
            tag("span", entry["idempotency_key"], class_="id")
            if entry["idempotency_key"]
            else NOTHING,
        ),
        summary=tag("span", _flat(params), class_="gist") if params else None,
        unfolded=json_view(scope.store, params) if params else None,
    )


def _status(entry: dict[str, Any]) -> Html:
    status = entry["status"]
    tone = "good" if status and status < 400 else "bad"
    shown = tag("span", str(status or "broken off"), class_=f"badge {tone}")
    replayed = badge("replayed") if entry["replayed"] else None
    fault = badge(entry["fault"]) if entry["fault"] else None
    return tag("span", shown, replayed, fault)


def _endpoint(scope: Scope, record: Record) -> Row:
    enabled = record["enabled_events"]
    label = "all" if "*" in enabled else ", ".join(enabled)
    return Row(
        record["id"],
        (
            (
                tag("div", record["url"], class_="path"),
                tag("div", object_link(record["id"])),
            ),
            badge(record["status"]),
            label,
            scope.pending(record["id"]),
        ),
    )


def _pending(scope: Scope) -> Child:
    found = scope.deliveries()
    rows = [_delivery(scope, record) for record in found]
    if not rows:
        return tag("p", _none(scope, "pending deliveries"), class_="empty")
    columns = ("Event", "Endpoint", "Since", "Failed attempts#")
    heading = tag(
        "h3",
        "Pending deliveries ",
        tag("span", scope.count(DELIVERY, len(rows), "deliveries"), class_="count"),
    )
    return (
        heading,
        table("Pending deliveries", columns, rows, ""),
        more(scope.view, "deliveries", len(rows), "deliveries"),
    )


def _delivery(scope: Scope, record: Record) -> Row:
    event = scope.store.get("event", record["event"]) or {}
    endpoint = scope.store.get("webhook_endpoint", record["endpoint"]) or {}
    return Row(
        record["id"],
        (
            (tag("div", event.get("type")), tag("div", object_link(record["event"]))),
            tag("span", endpoint.get("url", record["endpoint"]), class_="path"),
            moment(record["created"]),
            record["attempts"],
        ),
    )


def _fault(fault: dict[str, Any]) -> Row:
    kind = fault["kind"]
    what = f"status {fault['status']}" if kind == "status" else kind
    target = (
        tag("span", fault["method"] or "any", class_="method"),
        tag("span", fault["path"] or "any path", class_="path"),
    )
    said = (tag("div", f"{what}, {fault['when']} the work"), tag("div", target))
    return Row(fault["id"], (said, _left(fault)))


def _webhook_fault(fault: dict[str, Any]) -> Row:
    target = tag("span", fault["type"], class_="path")
    said = (tag("div", f"{fault['kind']} a webhook"), tag("div", target))
    return Row(fault["id"], (said, _left(fault)))


def _left(fault: dict[str, Any]) -> str:
    often = "" if fault["chance"] == 1 else f", by chance {fault['chance']:g}"
    if fault["times"] is None:
        return f"until cleared{often}"
    return f"{fault['times'] - fault['hits']} left{often}"


def _flat(params: dict[str, Any]) -> str:
    text = ", ".join(
        f"{key}={value if isinstance(value, str) else dump_json(value)}"
        for key, value in params.items()
    )
    return text if len(text) <= GIST else f"{text[:GIST]}…"


def _none(scope: Scope, noun: str) -> str:
    if scope.mention is None:
        return f"No {noun}."
    return f"None among the newest {SEARCHED:,} {noun}."
