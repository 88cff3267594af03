"""The control interface under `/_sandbox/`: JSON in and out, no credentials.

Who may use it is for the guard to say, as with the other stand-ins.
"""

import logging
import re
from collections.abc import Callable
from typing import Any

from caravel.nostr import InvalidPubkey, parse_pubkey
from sandbox.lightning.fields import BadField, Fields
from sandbox.stripe.protocol.http import Request, Response, json_response
from sandbox.zooid.api import Refused, Zooid
from sandbox.zooid.configs import BadConfig, Config, read
from sandbox.zooid.faults import KINDS, WHENS, Fault

logger = logging.getLogger(__name__)
PREFIX = "/_sandbox/"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def handle(zooid: Zooid, request: Request, objection: str | None) -> Response:
    """Answer a control request, unless there is an objection; never raises."""
    if objection:
        return _error(403, objection)
    try:
        return json_response(200, _answer(zooid, request))
    except Refused as error:
        return _error(error.status, str(error))
    except (BadConfig, BadField) as error:
        return _error(400, str(error))
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return _error(500, "the sandbox failed; its log says how")


def _answer(zooid: Zooid, request: Request) -> Any:
    path = request.path.removeprefix(PREFIX)
    for (method, pattern), deed in DEEDS.items():
        match = re.fullmatch(pattern, path)
        if match and method == request.method:
            return deed(zooid, read(request.body or b"{}"), *match.groups())
    raise Refused(404, f"no {request.method} {request.path}")


def show_relays(zooid: Zooid, said: Config) -> Any:
    """Return the relays by their ids, without anything secret."""
    return {
        relay_id: {**_without_secrets(config), "members": members}
        for relay_id, (config, members) in zooid.census().items()
    }


def set_members(zooid: Zooid, said: Config, relay_id: str) -> Any:
    """Let a relay have just these members."""
    members = Fields(said, ["members"]).texts("members")
    try:
        zooid.set_members(relay_id, map(parse_pubkey, members))
    except InvalidPubkey as exc:
        raise BadField(f"members: {exc.message}") from exc
    return show_relays(zooid, {})[relay_id]


def show_faults(zooid: Zooid, said: Config) -> Any:
    """Return the faults in force, oldest first."""
    return [vars(fault) for fault in zooid.faults.in_force()]


def add_fault(zooid: Zooid, said: Config) -> Any:
    """Let requests go wrong."""
    fields = Fields(said, Fault.__dataclass_fields__)
    fault = Fault(
        fields.choice("kind", KINDS),
        when=fields.choice("when", WHENS, "before"),
        method=fields.choice("method", METHODS) if "method" in fields else None,
        times=fields.whole("times", least=1) if "times" in fields else None,
        seconds=fields.seconds("seconds", 3600),
        status=_status(fields) if "status" in fields else None,
        body=fields.text("body", ""),
    )
    zooid.faults.add(fault)
    return show_faults(zooid, {})


def clear_faults(zooid: Zooid, said: Config) -> Any:
    """Let all be right again."""
    zooid.clear_faults()
    return show_faults(zooid, {})


def reset(zooid: Zooid, said: Config) -> Any:
    """Forget relays, members and faults."""
    zooid.reset()
    return show_relays(zooid, {})


def _status(fields: Fields) -> int:
    status = fields.whole("status")
    if not 200 <= status <= 599:
        raise BadField("status is a number from 200 to 599")
    return status


def _without_secrets(config: Config) -> Config:
    return {name: config[name] for name in config if name not in ("secret", "livekit")}


def _error(status: int, message: str) -> Response:
    return json_response(status, {"error": message})


DEEDS: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", "relays"): show_relays,
    ("POST", r"relays/([\w-]+)/members"): set_members,
    ("GET", "faults"): show_faults,
    ("POST", "faults"): add_fault,
    ("DELETE", "faults"): clear_faults,
    ("POST", "reset"): reset,
}
