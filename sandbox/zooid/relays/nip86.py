"""Relay management at the relay itself (NIP-86): its name, description and icon.

After khatru's `nip86.go` and zooid's `management.go`. The other methods, about members
and events, are not imitated.
"""

import hashlib
import json
import time
from typing import Any

from sandbox.common.control import Refused
from sandbox.common.http import Request, Response, json_response
from sandbox.common.nostr import Event
from sandbox.zooid.auth import read_event
from sandbox.zooid.configs import Config
from sandbox.zooid.relays import rights
from sandbox.zooid.relays.base_url import base_url

CONTENT_TYPE = "application/nostr+json+rpc"
#: Seconds; an event from the future is accepted.
MAX_AGE = 30
#: The fields of the configuration that the methods change.
METHODS = {
    "changerelayname": "name",
    "changerelaydescription": "description",
    "changerelayicon": "icon",
}


class Rejected(Exception):
    """A rejected call; the message says why."""


def is_called(request: Request) -> bool:
    """Return whether a request calls a method: the header must be exact."""
    return request.headers.get("content-type") == CONTENT_TYPE


def respond(result: Any = None, *, error: str = "") -> Response:
    """Return the response with a result or an error; khatru says 200 to both."""
    content = {"error": error} if error else {"result": result}
    return json_response(200, content, {"Content-Type": CONTENT_TYPE})


def changed_config(config: Config, request: Request) -> Config:
    """Return a relay's configuration as a call changes it. Raises Rejected."""
    event = _signed(request)
    method, params = _read_call(request.body)
    enabled = config.get("management", {}).get("enabled", False)
    if enabled and not rights.can_manage(config, event.pubkey):
        raise Rejected("blocked: only relay admins can manage this relay.")
    if not enabled or method not in METHODS:
        raise Rejected(f"method {method} not supported")
    if not params or not isinstance(params[0], str):
        raise Rejected(f"invalid params: missing {METHODS[method]}")
    info = {**config["info"], METHODS[method]: params[0]}
    return {**config, "info": info}


def _signed(request: Request) -> Event:
    """Return the event that signs a request. Raises Rejected."""
    token = request.headers.get("authorization", "").partition("Nostr ")[2]
    if not token:
        raise Rejected("missing auth")
    try:
        event = read_event(token)
    except Refused as exc:
        raise Rejected("invalid auth event") from exc
    if event.values("u")[:1] != [base_url(request)]:
        raise Rejected("invalid 'u' tag")
    if hashlib.sha256(request.body).hexdigest() not in event.values("payload"):
        raise Rejected("invalid auth event payload hash")
    if event.created_at < time.time() - MAX_AGE:
        raise Rejected("auth event is too old")
    return event


def _read_call(body: bytes) -> tuple[str, list[Any]]:
    """Return the method and the parameters. Raises Rejected."""
    try:
        call = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise Rejected("invalid json body") from exc
    match call:
        case {"method": str(method), "params": [*params]}:
            return method, params
    raise Rejected("invalid json body")
