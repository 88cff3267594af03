"""Commands of the control API; see `sandbox.common.control`."""

from dataclasses import asdict
from typing import Any

from sandbox.common import control
from sandbox.common.control import (
    Command,
    Commands,
    Refused,
    fault_commands,
)
from sandbox.common.fields import BadField, Fields
from sandbox.common.http import Request, Response
from sandbox.stripe import settings
from sandbox.stripe.api.context import DELIVERY
from sandbox.stripe.api.errors import StripeError
from sandbox.stripe.api.faults import ApiFault
from sandbox.stripe.app import StripeApp
from sandbox.stripe.control import customer_actions, network_actions
from sandbox.stripe.store.snapshots import NoSuchSnapshot
from sandbox.stripe.webhooks.faults import WebhookFault

MAX_ADVANCE_SECONDS = 100 * 366 * 86_400
SETTINGS = tuple(asdict(settings.DEFAULTS))


def serves(request: Request) -> bool:
    """Return whether the request is for the control API."""
    return request.path.startswith(control.PREFIX)


def handle(app: StripeApp, request: Request) -> Response:
    """Return the response to a control request. Never raises."""
    return control.handle(app, COMMANDS, request, _run)


def _run(command: Command, app: StripeApp, fields: Fields) -> Any:
    try:
        return command.run(app, fields)
    except StripeError as error:
        raise Refused(error.status, str(error)) from error
    except NoSuchSnapshot as error:
        raise Refused(404, f"no such snapshot: {error}") from None


def list_requests(app: StripeApp, fields: Fields) -> Any:
    method, path = (fields.optional(fields.text, name) for name in ("method", "path"))
    return {"data": app.log.list(method, path)}


def clear_requests(app: StripeApp, fields: Fields) -> Any:
    return {"data": app.log.clear()}


def clock(app: StripeApp, fields: Fields) -> Any:
    return {"now": app.clock.now(), "offset": app.clock.offset}


def advance(app: StripeApp, fields: Fields) -> Any:
    app.advance(
        fields.integer("seconds", maximum=MAX_ADVANCE_SECONDS),
        deliver=fields.flag("deliver", False),
        timeout=fields.seconds("patience", 10, maximum=600),
    )
    return clock(app, fields)


def reset(app: StripeApp, fields: Fields) -> Any:
    app.reset()
    return state(app, fields)


def snapshot(app: StripeApp, fields: Fields) -> Any:
    return app.snapshot(_snapshot_name(fields))


def restore(app: StripeApp, fields: Fields) -> Any:
    app.restore(_snapshot_name(fields))
    return state(app, fields)


def list_snapshots(app: StripeApp, fields: Fields) -> Any:
    return {"data": app.snapshots.list()}


def clear_snapshots(app: StripeApp, fields: Fields) -> Any:
    with app.lock:
        app.snapshots.clear()
    return {"data": []}


def state(app: StripeApp, fields: Fields) -> Any:
    with app.lock:
        counts = app.store.counts()
    return {
        **clock(app, fields),
        "objects": {
            kind: count for kind, count in counts.items() if not kind.startswith("_")
        },
        "pending_deliveries": counts.get(DELIVERY, 0),
        "faults": len(app.faults.active()),
        "webhook_faults": len(app.webhook_faults.active()),
        "webhooks": {"paused": app.deliveries.paused},
    }


def set_webhooks(app: StripeApp, fields: Fields) -> Any:
    app.deliveries.pause(fields.flag("paused"))
    return {"paused": app.deliveries.paused}


def redeliver(app: StripeApp, fields: Fields, event: str) -> Any:
    endpoint = fields.optional(fields.text, "endpoint")
    try:
        return {"event": event, "deliveries": app.redeliver(event, endpoint)}
    except KeyError:
        raise Refused(404, f"no such event: {event}") from None


def get_settings(app: StripeApp, fields: Fields) -> Any:
    with app.lock:
        return asdict(settings.read(app.store))


def change_settings(app: StripeApp, fields: Fields) -> Any:
    return asdict(app.change_settings(fields.values))


def _snapshot_name(fields: Fields) -> str:
    if name := fields.text("name"):
        return name
    raise BadField("a snapshot needs a name")


COMMANDS: Commands = {
    **customer_actions.COMMANDS,
    **network_actions.COMMANDS,
    **fault_commands("faults", ApiFault, lambda app: app.faults),
    **fault_commands("webhooks/faults", WebhookFault, lambda app: app.webhook_faults),
    ("DELETE", "requests"): Command(clear_requests),
    ("DELETE", "snapshots"): Command(clear_snapshots),
    ("GET", "clock"): Command(clock),
    ("GET", "requests"): Command(list_requests, ("method", "path")),
    ("GET", "settings"): Command(get_settings),
    ("GET", "snapshots"): Command(list_snapshots),
    ("GET", "state"): Command(state),
    ("POST", "clock/advance"): Command(advance, ("seconds", "deliver", "patience")),
    ("POST", r"events/(\w+)/redeliver"): Command(redeliver, ("endpoint",)),
    ("POST", "reset"): Command(reset),
    ("POST", "restore"): Command(restore, ("name",)),
    ("POST", "settings"): Command(change_settings, SETTINGS),
    ("POST", "snapshot"): Command(snapshot, ("name",)),
    ("POST", "webhooks"): Command(set_webhooks, ("paused",)),
}
