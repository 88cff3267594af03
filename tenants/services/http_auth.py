"""Verification of signed HTTP requests (NIP-98), stricter than NIP-98 requires.

An event is valid once, for one method, URL and body, for a minute after its creation.
https://github.com/nostr-protocol/nips/blob/master/98.md
"""

import base64
import hashlib
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection
from django.utils import timezone

from caravel.nostr.events import Event, InvalidEvent, NotSigned, parse_event
from tenants import exceptions
from tenants.models import UsedAuthEvent

KIND = 27235
#: Maximum difference between the event's time and ours, in seconds.
TOLERANCE = 60
#: Time to keep used events after they expire, since the clocks of our hosts may differ.
_KEEP_EXPIRED = timedelta(minutes=10)
#: Some clients use the URL-safe alphabet of base64, as BUD-11 and JWTs demand it.
#: https://github.com/hzrd149/blossom/blob/master/buds/11.md
_STANDARD_ALPHABET = str.maketrans("-_", "+/")
_INSERT = """
    INSERT INTO tenants_usedauthevent (event_id, expires_at) VALUES (%s, %s)
    ON CONFLICT DO NOTHING
"""


@dataclass(frozen=True)
class SignedRequest:
    """Signed parts of a request; `url` is the public URL."""

    header: str
    method: str
    url: str
    body: bytes


def authenticate(request: SignedRequest) -> str:
    """Return the public key that signed a request, and mark its event as used.

    Raises AuthFailed with a code for the cause.
    """
    event = _parse_header(request.header)
    _require_time(event)
    _require_request(event, request)
    _require_payload(event, request.body)
    # Last, so that a rejected request does not use up the event.
    _mark_used(event)
    return event.pubkey


def delete_expired_events() -> int:
    """Delete used events that are too old to be replayed; returns their number."""
    old = UsedAuthEvent.objects.filter(expires_at__lt=timezone.now() - _KEEP_EXPIRED)
    return old.delete()[0]


def _parse_header(header: str) -> Event:
    if not header:
        raise exceptions.AuthMissing("Sign the request: see NIP-98.")
    scheme, _, token = header.partition(" ")
    # Case-insensitive (RFC 9110, 11.1).
    if scheme.lower() != "nostr":
        raise exceptions.AuthMalformed("The header's scheme must be Nostr.")
    try:
        event = parse_event(json.loads(_decode(token.strip())))
    except NotSigned as exc:
        raise exceptions.AuthNotSigned("The id or the signature is wrong.") from exc
    except (ValueError, RecursionError, InvalidEvent) as exc:
        message = "The header must contain an event as base64-encoded JSON."
        raise exceptions.AuthMalformed(message) from exc
    if event.kind != KIND:
        raise exceptions.AuthWrongKind(f"The event's kind must be {KIND}.")
    return event


def _decode(token: str) -> bytes:
    """Decode base64 of either alphabet, with or without padding."""
    digits = token.rstrip("=").translate(_STANDARD_ALPHABET)
    return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)


def _require_time(event: Event) -> None:
    age = time.time() - event.created_at
    if age > TOLERANCE:
        raise exceptions.AuthExpired("The event is too old.")
    if age < -TOLERANCE:
        raise exceptions.AuthTooEarly("The event's time is in the future.")


def _require_request(event: Event, request: SignedRequest) -> None:
    # Exactly one tag each, since two would be ambiguous.
    if event.values("u") != [request.url]:
        raise exceptions.AuthWrongUrl(
            f"The u tag must be the exact URL, which starts with {settings.APP_URL}."
        )
    # In any case: nostr-tools documents `getToken(url, "post", …)`.
    if [value.upper() for value in event.values("method")] != [request.method]:
        raise exceptions.AuthWrongMethod("The method tag must be the request's method.")


def _require_payload(event: Event, body: bytes) -> None:
    hashes = event.values("payload")
    # Optional in NIP-98, but without it the signature does not cover the body.
    if body and not hashes:
        raise exceptions.AuthPayloadMissing("The payload tag is missing.")
    if any(value != hashlib.sha256(body).hexdigest() for value in hashes):
        raise exceptions.AuthWrongPayload("The payload tag must be the body's SHA-256.")


def _mark_used(event: Event) -> None:
    expires_at = datetime.fromtimestamp(event.created_at + TOLERANCE, UTC)
    # Of concurrent replays only one inserts the unique id. One statement, since every
    # request of the API executes it; get_or_create() takes four.
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [event.id, expires_at])
        if cursor.rowcount != 1:
            raise exceptions.AuthReused(
                "This event was used before. Two equal requests of one second are the "
                "same event: add a random tag (nonce), or wait for a second."
            )
