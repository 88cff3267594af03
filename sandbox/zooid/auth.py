"""NIP-98 authentication as zooid checks it: it ignores time, payload and query."""

import json
from base64 import b64decode

from sandbox.common.control import Refused
from sandbox.common.http import Request
from sandbox.common.nostr import Event, InvalidEvent, parse_event

#: The kind of NIP-98.
HTTP_AUTH = 27235


def verify_signature(request: Request) -> str:
    """Return the public key that signed a request, in hex. Raises Refused."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "nostr":
        raise Refused(401, "the Nostr authorization is missing")
    event = read_event(token)
    if event.kind != HTTP_AUTH:
        raise Refused(401, f"the event is not of kind {HTTP_AUTH}")
    if _url(request) not in event.values("u"):
        raise Refused(401, "the event is not for this address")
    if request.method not in map(str.upper, event.values("method")):
        raise Refused(401, "the event is not for this method")
    return event.pubkey


def read_event(token: str) -> Event:
    """Return the signed event in a token. Raises Refused."""
    try:
        return parse_event(json.loads(b64decode(token, validate=True)))
    except (ValueError, RecursionError, InvalidEvent) as exc:
        raise Refused(401, "the token is not a signed event") from exc


def _url(request: Request) -> str:
    proxied = request.headers.get("x-forwarded-proto") == "https"
    scheme = "https" if proxied else "http"
    return f"{scheme}://{request.headers.get('host', '')}{request.path}"
