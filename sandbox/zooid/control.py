"""The control API under `/_sandbox/`: JSON, no credentials.

Access: see `sandbox.common.access`.
"""

import logging
import re
from collections.abc import Callable
from typing import Any

from sandbox.common.fields import BadField, Fields
from sandbox.common.http import Request, Response, json_response
from sandbox.common.nostr import InvalidPubkey, parse_pubkey
from sandbox.zooid.api import Refused, Zooid
from sandbox.zooid.configs import BadConfig, Config, parse_object
from sandbox.zooid.faults import KINDS, WHENS, Fault

logger = logging.getLogger(__name__)
PREFIX = "/_sandbox/"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def handle(zooid: Zooid, request: Request, denial_reason: str | None) -> Response:
    """Handle a control request, or answer 403 with the denial reason; never raises."""
    if denial_reason:
        return _error(403, denial_reason)
    try:
        return json_response(200, _answer(zooid, request))
    except Refused as error:
        return _error(error.status, str(error))
    except (BadConfig, BadField) as error:
        return _error(400, str(error))
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return _error(500, "internal error of the sandbox; see its log")


def _answer(zooid: Zooid, request: Request) -> Any:
    path = request.path.removeprefix(PREFIX)
    for (method, pattern), command in COMMANDS.items():
        match = re.fullmatch(pattern, path)
        if match and method == request.method:
            return command(zooid, parse_object(request.body or b"{}"), *match.groups())
    raise Refused(404, f"no {request.method} {request.path}")


def list_relays(zooid: Zooid, body: Config) -> Any:
    """Return the relays by id, without secrets."""
    return {
        relay_id: {**_without_secrets(config), "members": members}
        for relay_id, (config, members) in zooid.state().items()
    }


def set_members(zooid: Zooid, body: Config, relay_id: str) -> Any:
    """Set a relay's members."""
    members = Fields(body, ["members"]).texts("members")
    try:
        zooid.set_members(relay_id, map(parse_pubkey, members))
    except InvalidPubkey as exc:
        raise BadField(f"members: {exc}") from exc
    return list_relays(zooid, {})[relay_id]


def list_faults(zooid: Zooid, body: Config) -> Any:
    """Return the active faults, oldest first."""
    return [vars(fault) for fault in zooid.faults.active()]


def add_fault(zooid: Zooid, body: Config) -> Any:
    """Add a fault for requests to the API."""
    fields = Fields(body, Fault.__dataclass_fields__)
    fault = Fault(
        fields.choice("kind", KINDS),
        when=fields.choice("when", WHENS, "before"),
        method=fields.choice("method", METHODS) if "method" in fields else None,
        times=fields.integer("times", minimum=1) if "times" in fields else None,
        seconds=fields.seconds("seconds", 3600),
        status=_status(fields) if "status" in fields else None,
        body=fields.text("body", ""),
    )
    zooid.faults.add(fault)
    return list_faults(zooid, {})


def clear_faults(zooid: Zooid, body: Config) -> Any:
    """Clear all faults."""
    zooid.clear_faults()
    return list_faults(zooid, {})


def reset(zooid: Zooid, body: Config) -> Any:
    """Delete relays, members and faults."""
    zooid.reset()
    return list_relays(zooid, {})


def _status(fields: Fields) -> int:
    status = fields.integer("status")
    if not 200 <= status <= 599:
        raise BadField("status must be a number from 200 to 599")
    return status


def _without_secrets(config: Config) -> Config:
    return {name: config[name] for name in config if name not in ("secret", "livekit")}


def _error(status: int, message: str) -> Response:
    return json_response(status, {"error": message})


COMMANDS: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", "relays"): list_relays,
    ("POST", r"relays/([\w-]+)/members"): set_members,
    ("GET", "faults"): list_faults,
    ("POST", "faults"): add_fault,
    ("DELETE", "faults"): clear_faults,
    ("POST", "reset"): reset,
}
