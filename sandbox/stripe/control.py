"""The control interface under `/_sandbox/`: JSON in and out, no credentials."""

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from sandbox.stripe import people, settings
from sandbox.stripe.context import DELIVERY
from sandbox.stripe.faults import KINDS, Fault
from sandbox.stripe.protocol.http import Request, Response, json_response

if TYPE_CHECKING:
    from sandbox.stripe.app import StripeApp

PREFIX = "/_sandbox/"


class BadControl(Exception):
    """A control request that makes no sense."""


def handle(app: "StripeApp", request: Request) -> Response:
    """Answer a control request."""
    path = request.path.removeprefix(PREFIX)
    action = ACTIONS.get((request.method, path))
    deed = people.find(request.method, path)
    try:
        if deed is not None:
            return people.answer(app, deed, _body(request))
        if action is None:
            return json_response(404, {"error": f"no {request.method} {request.path}"})
        return json_response(200, action(app, request))
    except BadControl as error:
        return json_response(400, {"error": str(error)})


def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(request.body or b"{}")
    except ValueError as error:
        raise BadControl(f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadControl("a JSON object is expected")
    return body


def _add_fault(app: "StripeApp", request: Request) -> dict[str, Any]:
    body = _body(request)
    if body.get("kind") not in KINDS:
        raise BadControl(f"kind is one of {', '.join(KINDS)}")
    try:
        return app.faults.add(Fault(**body)).show()
    except (TypeError, re.error) as error:
        raise BadControl(str(error)) from None


def _list_faults(app: "StripeApp", request: Request) -> dict[str, Any]:
    return {"data": app.faults.list()}


def _clear_faults(app: "StripeApp", request: Request) -> dict[str, Any]:
    app.faults.clear()
    return {"data": []}


def _list_requests(app: "StripeApp", request: Request) -> dict[str, Any]:
    query = {key: values[-1] for key, values in parse_qs(request.query).items()}
    return {"data": app.log.list(query.get("method"), query.get("path"))}


def _clear_requests(app: "StripeApp", request: Request) -> dict[str, Any]:
    app.log.clear()
    return {"data": []}


def _clock(app: "StripeApp", request: Request) -> dict[str, Any]:
    return {"now": app.clock.now(), "offset": app.clock.offset}


def _advance(app: "StripeApp", request: Request) -> dict[str, Any]:
    seconds = _body(request).get("seconds")
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds < 0:
        raise BadControl("seconds is a whole number, 0 or more")
    app.advance(seconds)
    return _clock(app, request)


def _reset(app: "StripeApp", request: Request) -> dict[str, Any]:
    app.reset()
    return _state(app, request)


def _state(app: "StripeApp", request: Request) -> dict[str, Any]:
    with app.lock:
        counts = app.store.counts()
    return {
        **_clock(app, request),
        "objects": {
            kind: count for kind, count in counts.items() if not kind.startswith("_")
        },
        "pending_deliveries": counts.get(DELIVERY, 0),
        "faults": len(app.faults.list()),
        "webhooks": _webhook_settings(app),
    }


def _set_webhooks(app: "StripeApp", request: Request) -> dict[str, Any]:
    body = _body(request)
    if not isinstance(body.get("paused"), bool) or len(body) > 1:
        raise BadControl("paused is true or false")
    app.deliveries.settings.paused = body["paused"]
    app.deliveries.wake()
    return _webhook_settings(app)


def _webhook_settings(app: "StripeApp") -> dict[str, Any]:
    return {"paused": app.deliveries.settings.paused}


def _settings(app: "StripeApp", request: Request) -> dict[str, Any]:
    with app.lock:
        return asdict(settings.read(app.store))


def _change_settings(app: "StripeApp", request: Request) -> dict[str, Any]:
    changes = _body(request)
    try:
        return asdict(app.change_settings(changes))
    except settings.BadSetting as error:
        raise BadControl(str(error)) from None


ACTIONS = {
    ("DELETE", "faults"): _clear_faults,
    ("DELETE", "requests"): _clear_requests,
    ("GET", "clock"): _clock,
    ("GET", "faults"): _list_faults,
    ("GET", "requests"): _list_requests,
    ("GET", "settings"): _settings,
    ("GET", "state"): _state,
    ("POST", "clock/advance"): _advance,
    ("POST", "faults"): _add_fault,
    ("POST", "reset"): _reset,
    ("POST", "settings"): _change_settings,
    ("POST", "webhooks"): _set_webhooks,
}
