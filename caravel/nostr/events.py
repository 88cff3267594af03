"""Nostr events (NIP-01): signing, and parsing of untrusted input."""

import json
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pynostr.event import Event as _Event

from caravel.core.exceptions import Invalid

Tags = tuple[tuple[str, ...], ...]
_HEX = {
    "id": re.compile(r"[0-9a-f]{64}"),
    "pubkey": re.compile(r"[0-9a-f]{64}"),
    "sig": re.compile(r"[0-9a-f]{128}"),
}
_RANGES = {"kind": range(65_536), "created_at": range(2**63)}


class InvalidEvent(Invalid):
    """The data is not an event, or its id or signature is wrong."""

    code = "nostr-event-invalid"


class NotSigned(InvalidEvent):
    """The event's id is not its hash, or the signature is not its author's."""

    code = "nostr-event-not-signed"


@dataclass(frozen=True)
class Event:
    """Signed event; `created_at` is Unix time in seconds."""

    id: str
    pubkey: str
    created_at: int
    kind: int
    tags: Tags
    content: str
    sig: str

    def values(self, name: str) -> list[str]:
        """Return the second element of each tag with this name."""
        return [tag[1] for tag in self.tags if len(tag) > 1 and tag[0] == name]

    def to_dict(self) -> dict[str, Any]:
        """Return the event as a JSON object of NIP-01."""
        return dict(vars(self))

    def to_json(self) -> str:
        """Return the event as compact JSON text."""
        return json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=False)


def sign_event(
    secret_key: str,
    *,
    kind: int,
    content: str,
    tags: Iterable[Sequence[str]] = (),
    created_at: int | None = None,
) -> Event:
    """Return an event signed with a secret key in hex; `created_at` defaults to now."""
    unsigned = _Event(
        content=content,
        kind=kind,
        tags=[list(tag) for tag in tags],
        created_at=int(time.time()) if created_at is None else created_at,
    )
    unsigned.sign(secret_key)
    return _frozen(unsigned)


def unsigned_event(
    pubkey: str, *, kind: int, content: str, tags: Iterable[Sequence[str]] = ()
) -> dict[str, Any]:
    """Return an unsigned event with its id, created now: a rumor (NIP-59)."""
    rumor = _Event(
        content=content,
        pubkey=pubkey,
        kind=kind,
        tags=[list(tag) for tag in tags],
        created_at=int(time.time()),
    )
    return {k: v for k, v in vars(rumor).items() if k != "sig"}


def parse_event(data: object) -> Event:
    """Convert decoded JSON to an event, and verify its id and signature.

    Raises InvalidEvent; the message never repeats the input.
    """
    try:
        event = _parse_and_verify(data)
    except InvalidEvent:
        raise
    except Exception as exc:  # pynostr raises various exceptions on malformed input
        raise InvalidEvent("This is not a Nostr event.") from exc
    return event


def _parse_and_verify(data: object) -> Event:
    if not isinstance(data, dict):
        raise InvalidEvent("This is not a Nostr event.")
    _require_format(data)
    event = _Event.from_dict(data)
    # pynostr computes the id itself and ignores the one in the data.
    if event.id != data["id"]:
        raise NotSigned("The event's id is not the hash of its content.")
    if not event.verify():
        raise NotSigned("The event's signature is wrong.")
    return _frozen(event)


def _require_format(data: dict[Any, Any]) -> None:
    are_strings = all(isinstance(data[name], str) for name in ("content", *_HEX))
    # Not isinstance(): True is an int.
    are_integers = all(type(data[name]) is int for name in _RANGES)
    if not are_strings or not are_integers or not _are_tags(data):
        raise InvalidEvent("This is not a Nostr event.")
    # pynostr also accepts upper case and spaces in hex.
    if not all(pattern.fullmatch(data[name]) for name, pattern in _HEX.items()):
        raise InvalidEvent("Ids, keys and signatures are lower-case hex.")
    for name, allowed in _RANGES.items():
        if data[name] not in allowed:
            raise InvalidEvent(f"The event's {name} is out of range.")


def _are_tags(data: dict[Any, Any]) -> bool:
    return isinstance(data["tags"], list) and all(
        isinstance(tag, list) and all(isinstance(part, str) for part in tag)
        for tag in data["tags"]
    )


def _frozen(event: Any) -> Event:
    return Event(
        id=event.id,
        pubkey=event.pubkey,
        created_at=event.created_at,
        kind=event.kind,
        tags=tuple(tuple(tag) for tag in event.tags),
        content=event.content,
        sig=event.sig,
    )
