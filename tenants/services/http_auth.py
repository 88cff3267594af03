"""Who made a request: NIP-98, with all that it leaves open decided strictly.

An event is good for one request, with one method, at one address, with one body, within
a minute of when it was made. https://github.com/nostr-protocol/nips/blob/master/98.md
"""

import base64
import hashlib
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.utils import timezone

from caravel.nostr.events import Event, InvalidEvent, NotSigned, parse_event
from tenants import exceptions
from tenants.models import UsedAuthEvent

KIND = 27235
#: Seconds that the caller's clock may be from ours, either way.
TOLERANCE = 60
#: How long an event is remembered after it has expired: our hosts' clocks may differ.
_REMEMBERED = timedelta(minutes=10)


@dataclass(frozen=True)
class SignedRequest:
    """What of a request is signed; `url` is the address that callers know us by."""

    header: str
    method: str
    url: str
    body: bytes


def authenticate(request: SignedRequest) -> str:
    """Return the public key that signed a request, and let nobody use that again.

    Raises AuthFailed, whose code says what is wrong.
    """
    event = _event(request.header)
    _require_time(event)
    _require_request(event, request)
    _require_payload(event, request.body)
    _use(event)
    return event.pubkey


def delete_expired_events() -> int:
    """Forget the events that would be refused for their age; returns how many."""
    old = UsedAuthEvent.objects.filter(expires_at__lt=timezone.now() - _REMEMBERED)
    return old.delete()[0]


def _event(header: str) -> Event:
    if not header:
        raise exceptions.AuthMissing("Sign the request: see NIP-98.")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "nostr":
        raise exceptions.AuthMalformed("The scheme of the header must be Nostr.")
    try:
        event = parse_event(json.loads(base64.b64decode(token.strip(), validate=True)))
    except NotSigned as exc:
        raise exceptions.AuthNotSigned("The id or the signature is wrong.") from exc
    except (ValueError, RecursionError, InvalidEvent) as exc:
        raise exceptions.AuthMalformed("There must be an event, in base64.") from exc
    if event.kind != KIND:
        raise exceptions.AuthWrongKind(f"The event's kind must be {KIND}.")
    return event


def _require_time(event: Event) -> None:
    age = time.time() - event.created_at
    if age > TOLERANCE:
        raise exceptions.AuthExpired("The event is too old.")
    if age < -TOLERANCE:
        raise exceptions.AuthTooEarly("The event is dated ahead.")


def _require_request(event: Event, request: SignedRequest) -> None:
    if event.values("u") != [request.url]:
        raise exceptions.AuthWrongUrl("The tag u must be the exact address.")
    if event.values("method") != [request.method]:
        raise exceptions.AuthWrongMethod("The tag method must be the method.")


def _require_payload(event: Event, body: bytes) -> None:
    hashes = event.values("payload")
    if body and not hashes:
        raise exceptions.AuthPayloadMissing("The tag payload is missing.")
    if any(given != hashlib.sha256(body).hexdigest() for given in hashes):
        raise exceptions.AuthWrongPayload("The tag payload must be the body's SHA-256.")


def _use(event: Event) -> None:
    expires_at = datetime.fromtimestamp(event.created_at + TOLERANCE, UTC)
    _, is_new = UsedAuthEvent.objects.get_or_create(
        event_id=event.id, defaults={"expires_at": expires_at}
    )
    if not is_new:
        raise exceptions.AuthReused("This event was used before.")
