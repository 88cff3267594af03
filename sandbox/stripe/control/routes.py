"""Control API under `/_sandbox/`: JSON requests and responses, no credentials.

Access: see `guard.py`.
"""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs

from sandbox.common.http import Request, Response, json_response
from sandbox.common.probability import BadFault
from sandbox.stripe import settings
from sandbox.stripe.api.context import DELIVERY
from sandbox.stripe.api.faults import Fault
from sandbox.stripe.control import customer_actions
from sandbox.stripe.settings import BadSetting
from sandbox.stripe.store.snapshots import NoSuchSnapshot
from sandbox.stripe.webhooks.faults import WebhookFault

if TYPE_CHECKING:
    from sandbox.stripe.app import StripeApp

logger = logging.getLogger(__name__)
PREFIX = "/_sandbox/"
REDELIVER = re.compile(r"events/(\w+)/redeliver", re.ASCII)
# Fields of a fault that a request cannot set.
PRIVATE = frozenset({"id", "hits", "cleared", "random"})
MAX_ADVANCE_SECONDS = 100 * 366 * 86_400
AnyFault = TypeVar("AnyFault", Fault, WebhookFault)
Action = Callable[["StripeApp", Request], dict[str, Any]]


class BadRequest(Exception):
    """A control request is invalid."""


class NotFound(Exception):
    """A control request names an object that does not exist."""


def serves(request: Request) -> bool:
    """Return whether the request is for the control API."""
    return request.path.startswith(PREFIX)


def handle(app: "StripeApp", request: Request, denial: str | None) -> Response:
    """Return the response to a control request, a 403 if denied. Never raises."""
    if denial:
        return _error(403, denial)
    path = request.path.removeprefix(PREFIX)
    name = "events/{}/redeliver" if REDELIVER.fullmatch(path) else path
    action = ACTIONS.get((request.method, name))
    customer_action = customer_actions.match(request.method, path)
    try:
        if customer_action is not None:
            body = _body(request, *customer_actions.FIELDS)
            return customer_actions.execute(app, customer_action, body)
        if action is None:
            return _error(404, f"no such endpoint: {request.method} {request.path}")
        return json_response(200, action(app, request))
    except (BadRequest, BadFault, BadSetting) as error:
        return _error(400, str(error))
    except NotFound as error:
        return _error(404, str(error))
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return _error(500, "the sandbox failed; see its log")


def _error(status: int, message: str) -> Response:
    return json_response(status, {"error": message})


def _body(request: Request, *known: str) -> dict[str, Any]:
    """Return the JSON object in the body. Raises BadRequest for unknown keys."""
    try:
        body = json.loads(request.body or b"{}")
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    unknown = sorted(body.keys() - set(known)) if known else []
    if unknown:
        raise BadRequest(f"unknown field: {', '.join(unknown)}")
    return body


def _fault(kind: type[AnyFault], request: Request) -> AnyFault:
    names = [field.name for field in fields(kind) if field.name not in PRIVATE]
    body = _body(request, *names)
    if "kind" not in body:
        raise BadRequest("a fault needs a kind")
    return kind(**body)


def _add_fault(app: "StripeApp", request: Request) -> dict[str, Any]:
    return app.faults.add(_fault(Fault, request)).to_dict()


def _list_faults(app: "StripeApp", request: Request) -> dict[str, Any]:
    return {"data": app.faults.list()}


def _clear_faults(app: "StripeApp", request: Request) -> dict[str, Any]:
    app.faults.clear()
    return {"data": []}


def _add_webhook_fault(app: "StripeApp", request: Request) -> dict[str, Any]:
    return app.webhook_faults.add(_fault(WebhookFault, request)).to_dict()


def _list_webhook_faults(app: "StripeApp", request: Request) -> dict[str, Any]:
    return {"data": app.webhook_faults.list()}


def _clear_webhook_faults(app: "StripeApp", request: Request) -> dict[str, Any]:
    app.webhook_faults.clear()
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
    body = _body(request, "seconds", "deliver", "patience")
    seconds, deliver = body.get("seconds"), body.get("deliver", False)
    timeout = body.get("patience", 10)
    if type(seconds) is not int or not 0 <= seconds <= MAX_ADVANCE_SECONDS:
        raise BadRequest("seconds must be a whole number, from 0 to a hundred years")
    if not isinstance(deliver, bool):
        raise BadRequest("deliver must be true or false")
    if type(timeout) not in (int, float) or not 0 <= timeout <= 600:
        raise BadRequest("patience must be a number of seconds, at most 600")
    app.advance(seconds, deliver=deliver, timeout=timeout)
    return _clock(app, request)


def _reset(app: "StripeApp", request: Request) -> dict[str, Any]:
    app.reset()
    return _state(app, request)


def _snapshot_name(request: Request) -> str:
    name = _body(request, "name").get("name")
    if not isinstance(name, str) or not name:
        raise BadRequest("a snapshot needs a name")
    return name


def _snapshot(app: "StripeApp", request: Request) -> dict[str, Any]:
    return app.snapshot(_snapshot_name(request))


def _restore(app: "StripeApp", request: Request) -> dict[str, Any]:
    try:
        app.restore(_snapshot_name(request))
    except NoSuchSnapshot as error:
        raise NotFound(f"no such snapshot: {error}") from None
    return _state(app, request)


def _list_snapshots(app: "StripeApp", request: Request) -> dict[str, Any]:
    return {"data": app.snapshots.list()}


def _clear_snapshots(app: "StripeApp", request: Request) -> dict[str, Any]:
    with app.lock:
        app.snapshots.clear()
    return {"data": []}


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
        "webhook_faults": len(app.webhook_faults.list()),
        "webhooks": _webhook_settings(app),
    }


def _set_webhooks(app: "StripeApp", request: Request) -> dict[str, Any]:
    paused = _body(request, "paused").get("paused")
    if not isinstance(paused, bool):
        raise BadRequest("paused must be true or false")
    app.deliveries.settings.paused = paused
    app.deliveries.wake()
    return _webhook_settings(app)


def _webhook_settings(app: "StripeApp") -> dict[str, Any]:
    return {"paused": app.deliveries.settings.paused}


def _redeliver(app: "StripeApp", request: Request) -> dict[str, Any]:
    endpoint = _body(request, "endpoint").get("endpoint")
    if endpoint is not None and not isinstance(endpoint, str):
        raise BadRequest("endpoint must be the id of a webhook endpoint")
    event = request.path.split("/")[-2]
    try:
        return {"event": event, "deliveries": app.redeliver(event, endpoint)}
    except KeyError:
        raise NotFound(f"no such event: {event}") from None


def _settings(app: "StripeApp", request: Request) -> dict[str, Any]:
    with app.lock:
        return asdict(settings.read(app.store))


def _change_settings(app: "StripeApp", request: Request) -> dict[str, Any]:
    return asdict(app.change_settings(_body(request)))


ACTIONS: dict[tuple[str, str], Action] = {
    ("DELETE", "faults"): _clear_faults,
    ("DELETE", "requests"): _clear_requests,
    ("DELETE", "snapshots"): _clear_snapshots,
    ("DELETE", "webhooks/faults"): _clear_webhook_faults,
    ("GET", "clock"): _clock,
    ("GET", "faults"): _list_faults,
    ("GET", "requests"): _list_requests,
    ("GET", "settings"): _settings,
    ("GET", "snapshots"): _list_snapshots,
    ("GET", "state"): _state,
    ("GET", "webhooks/faults"): _list_webhook_faults,
    ("POST", "clock/advance"): _advance,
    ("POST", "events/{}/redeliver"): _redeliver,
    ("POST", "faults"): _add_fault,
    ("POST", "reset"): _reset,
    ("POST", "restore"): _restore,
    ("POST", "settings"): _change_settings,
    ("POST", "snapshot"): _snapshot,
    ("POST", "webhooks"): _set_webhooks,
    ("POST", "webhooks/faults"): _add_webhook_fault,
}
