"""Nostr events (NIP-01): signing, and reading what strangers send."""

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
    """Not an event, or its id or signature is not its own."""

    code = "nostr-event-invalid"


class NotSigned(InvalidEvent):
    """The event's id is not its own, or its signature not its author's."""

    code = "nostr-event-not-signed"


@dataclass(frozen=True)
class Event:
    """A signed event; `created_at` is in seconds of the epoch."""

    id: str
    pubkey: str
    created_at: int
    kind: int
    tags: Tags
    content: str
    sig: str

    def values(self, name: str) -> list[str]:
        """Return the second element of each tag of that name."""
        return [tag[1] for tag in self.tags if len(tag) > 1 and tag[0] == name]

    def to_dict(self) -> dict[str, Any]:
        """Return the event as NIP-01 has it in JSON."""
        return dict(vars(self))

    def to_json(self) -> str:
        """Return the event as relays take it."""
        return json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=False)


def sign_event(
    secret_key: str,
    *,
    kind: int,
    content: str,
    tags: Iterable[Sequence[str]] = (),
    created_at: int | None = None,
) -> Event:
    """Return an event signed with a secret key in hex; its time is now if not given."""
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
    """Return an event of now with its id and without a signature: a rumor (NIP-59)."""
    rumor = _Event(
        content=content,
        pubkey=pubkey,
        kind=kind,
        tags=[list(tag) for tag in tags],
        created_at=int(time.time()),
    )
    return {k: v for k, v in vars(rumor).items() if k != "sig"}


def parse_event(data: object) -> Event:
    """Read an event from decoded JSON and verify its id and signature.

    Raises InvalidEvent for anything else, without repeating it.
    """
    try:
        event = _checked(data)
    except InvalidEvent:
        raise
    except Exception as exc:  # pynostr raises whatever the input leads to
        raise InvalidEvent("This is not a Nostr event.") from exc
    return event


def _checked(data: object) -> Event:
    if not isinstance(data, dict):
        raise InvalidEvent("This is not a Nostr event.")
    _require_form(data)
    found = _Event.from_dict(data)
    # pynostr computes the id and ignores the one that it is given.
    if found.id != data["id"]:
        raise NotSigned("The event's id is not the hash of its content.")
    if not found.verify():
        raise NotSigned("The event's signature is wrong.")
    return _frozen(found)


def _require_form(data: dict[Any, Any]) -> None:
    is_typed = all(isinstance(data[name], str) for name in ("content", *_HEX))
    numbers = all(type(data[name]) is int for name in _RANGES)
    if not is_typed or not numbers or not _are_tags(data):
        raise InvalidEvent("This is not a Nostr event.")
    # pynostr would also take capitals and spaces in what is hexadecimal.
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
