"""Tables of events, API requests, webhook deliveries and faults."""

import json
from typing import Any

from sandbox.common.html.elements import Child, Html, tag
from sandbox.common.http import dump_json
from sandbox.stripe.api.context import DELIVERY
from sandbox.stripe.pages.dashboard.json_view import json_view
from sandbox.stripe.pages.dashboard.selection import MAX_SEARCHED, Scope
from sandbox.stripe.pages.table import Row, more, section, table
from sandbox.stripe.pages.text import NOTHING, badge, moment, object_link
from sandbox.stripe.store.records import Record

MAX_SUMMARY_LENGTH = 160


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
            _empty_text(scope, "events"),
        ),
        more(scope.view, "events", len(rows), "events"),
        count=scope.count("event", len(rows), "events"),
    )


def requests(scope: Scope) -> Html:
    """Return the section of API requests with expandable parameters."""
    rows = [_request(scope, entry) for entry in scope.requests()]
    columns = ("Request", "Status", "Time", "Idempotency key")
    return section(
        "requests",
        "API requests",
        table("API requests", columns, rows, _empty_text(scope, "requests")),
        more(scope.view, "requests", len(rows), "requests"),
    )


def webhooks(scope: Scope) -> Html:
    """Return the section of webhook endpoints and pending deliveries."""
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
    """Return the section of active faults, with the button that clears them."""
    app = scope.app
    rows = [
        *(_fault(fault) for fault in app.faults.list()),
        *(_webhook_fault(fault) for fault in app.webhook_faults.list()),
    ]
    body = table("Faults", ("Fault", "Times"), rows, "No active faults.")
    return section("faults", "Active faults", body, clear if rows else None, wide=False)


def _event(record: Record) -> Row:
    content = json.loads(record["_data"])["object"]
    pending = record["pending_webhooks"]
    return Row(
        record["id"],
        (
            (tag("div", record["type"]), tag("div", object_link(record["id"]))),
            object_link(content["id"]) if "id" in content else content["object"],
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
        summary=tag("span", _one_line(params), class_="preview") if params else None,
        details=json_view(scope.store, params) if params else None,
    )


def _status(entry: dict[str, Any]) -> Html:
    status = entry["status"]
    tone = "good" if status and status < 400 else "bad"
    code = tag("span", str(status or "connection broken"), class_=f"badge {tone}")
    replayed = badge("replayed") if entry["replayed"] else None
    fault = badge(entry["fault"]) if entry["fault"] else None
    return tag("span", code, replayed, fault)


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
    rows = [_delivery(scope, record) for record in scope.deliveries()]
    if not rows:
        return tag("p", _empty_text(scope, "pending deliveries"), class_="empty")
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
    effect = f"status {fault['status']}" if kind == "status" else kind
    target = (
        tag("span", fault["method"] or "any", class_="method"),
        tag("span", fault["path"] or "any path", class_="path"),
    )
    description = (
        tag("div", f"{effect}, {fault['when']} execution"),
        tag("div", target),
    )
    return Row(fault["id"], (description, _remaining(fault)))


def _webhook_fault(fault: dict[str, Any]) -> Row:
    target = tag("span", fault["type"], class_="path")
    description = (tag("div", f"{fault['kind']} a webhook"), tag("div", target))
    return Row(fault["id"], (description, _remaining(fault)))


def _remaining(fault: dict[str, Any]) -> str:
    probability = (
        "" if fault["chance"] == 1 else f", with probability {fault['chance']:g}"
    )
    if fault["times"] is None:
        return f"until cleared{probability}"
    return f"{fault['times'] - fault['hits']} left{probability}"


def _one_line(params: dict[str, Any]) -> str:
    text = ", ".join(
        f"{key}={value if isinstance(value, str) else dump_json(value)}"
        for key, value in params.items()
    )
    return text if len(text) <= MAX_SUMMARY_LENGTH else f"{text[:MAX_SUMMARY_LENGTH]}…"


def _empty_text(scope: Scope, noun: str) -> str:
    if scope.mention is None:
        return f"No {noun}."
    return f"None among the newest {MAX_SEARCHED:,} {noun}."
