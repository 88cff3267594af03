"""Messages between clients and a relay (NIP-01, NIP-42)."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from sandbox.common.nostr import HEX, Event, InvalidEvent, parse_event

AUTH_KIND = 22_242
#: Seconds between signing and sending an AUTH; NIP-42 says about ten minutes.
MAX_AUTH_AGE = 600


class MalformedMessage(ValueError):
    """An invalid client message; the text says why."""


def message(verb: str, *values: object) -> str:
    """Return a message to a client."""
    return json.dumps([verb, *values])


def event_message(subscription_id: str, event_json: str) -> str:
    """Return an EVENT message with an event that is JSON already."""
    return f'["EVENT",{json.dumps(subscription_id)},{event_json}]'


def parse_message(text: str | bytes) -> tuple[str, list[Any]]:
    """Return a message's verb and arguments. Raises MalformedMessage."""
    if isinstance(text, bytes):
        raise MalformedMessage("a message must be text")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise MalformedMessage("a message must be JSON") from exc
    if not isinstance(data, list) or not data or not isinstance(data[0], str):
        raise MalformedMessage("a message must be an array that starts with a verb")
    return data[0], data[1:]


def parse_subscription_id(arguments: list[Any]) -> str:
    """Return the id at the start of a REQ or CLOSE. Raises MalformedMessage."""
    if not arguments or not isinstance(arguments[0], str):
        raise MalformedMessage("the subscription id is missing")
    if not 1 <= len(arguments[0]) <= 64:
        raise MalformedMessage("a subscription id must have 1 to 64 characters")
    return arguments[0]


def parse_signed(arguments: list[Any]) -> Event:
    """Return the verified event of an EVENT or AUTH. Raises InvalidEvent."""
    if len(arguments) != 1:
        raise InvalidEvent("exactly one event is expected")
    return parse_event(arguments[0])


def read_event(arguments: list[Any], send: Callable[[str], object]) -> Event | None:
    """Return a verified event, or send OK false and return None.

    Raises MalformedMessage if there is no id for the answer.
    """
    try:
        return parse_signed(arguments)
    except InvalidEvent as exc:
        event_id = event_id_of(arguments)
        if event_id is None:
            raise MalformedMessage(str(exc)) from exc
        send(message("OK", event_id, False, f"invalid: {exc}"))
        return None


def event_id_of(arguments: list[Any]) -> str | None:
    """Return the id that an event claims, if it looks like an id."""
    match arguments:
        case [{"id": str(event_id)}, *_] if HEX.fullmatch(event_id):
            return event_id
    return None


def with_bad_signature(event: Event) -> str:
    """Return an event as JSON with an invalid signature."""
    other = f"{int(event.sig[0], 16) ^ 1:x}{event.sig[1:]}"
    return replace(event, sig=other).to_json()


def rejection_reason(event: Event, challenge: str, host: str) -> str | None:
    """Return why an AUTH event is invalid for this connection, or None.

    `host` is the Host header of the connection, with the port.
    """
    if event.kind != AUTH_KIND:
        return "the kind is not 22242"
    if event.values("challenge") != [challenge]:
        return "this is not the challenge of the connection"
    if [_host(url) for url in event.values("relay")] != [host.lower()]:
        return "this is not the address of the relay"
    if abs(event.created_at - time.time()) > MAX_AUTH_AGE:
        return "the event is too old or too new"
    return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
