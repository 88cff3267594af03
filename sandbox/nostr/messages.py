"""Messages between clients and a relay (NIP-01, NIP-42)."""

import json
from dataclasses import replace
from typing import Any

from sandbox.common.nostr import Event, InvalidEvent, parse_event
from sandbox.nostr.filters import HEX


class MalformedMessage(ValueError):
    """An invalid client message; the text says why."""


def parse_message(message: str | bytes) -> tuple[str, list[Any]]:
    """Return a message's verb and arguments. Raises MalformedMessage."""
    if isinstance(message, bytes):
        raise MalformedMessage("a message must be text")
    try:
        data = json.loads(message)
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
        raise InvalidEvent("Exactly one event is expected.")
    return parse_event(arguments[0])


def ok(event_id: str, accepted: bool, message: str = "") -> str:
    return json.dumps(["OK", event_id, accepted, message])


def eose(subscription_id: str) -> str:
    return json.dumps(["EOSE", subscription_id])


def closed(subscription_id: str, message: str) -> str:
    return json.dumps(["CLOSED", subscription_id, message])


def notice(message: str) -> str:
    return json.dumps(["NOTICE", message])


def challenge(text: str) -> str:
    return json.dumps(["AUTH", text])


def event_message(subscription_id: str, event_json: str) -> str:
    return f'["EVENT",{json.dumps(subscription_id)},{event_json}]'


def with_bad_signature(event: Event) -> str:
    """Return an event as JSON with an invalid signature."""
    other = f"{int(event.sig[0], 16) ^ 1:x}{event.sig[1:]}"
    return replace(event, sig=other).to_json()


def event_id_of(arguments: list[Any]) -> str | None:
    """Return the id that an event claims, if it looks like an id."""
    event_id = (
        arguments[0].get("id") if arguments and isinstance(arguments[0], dict) else None
    )
    return event_id if isinstance(event_id, str) and HEX.fullmatch(event_id) else None
