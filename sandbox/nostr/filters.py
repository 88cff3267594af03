"""Filters of NIP-01: reading them, matching events, and the keys both are found by."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from caravel.nostr.events import Event

# A key is a tuple of what it looks at and the value; `("all",)` finds every event.
Key = tuple[str | int, ...]
Tags = tuple[tuple[str, frozenset[str]], ...]

HEX = re.compile(r"[0-9a-f]{64}")
KINDS = range(65_536)
# Beyond, a filter of many authors and kinds is found by its authors alone.
MAX_AUTHOR_KIND_KEYS = 1_000


class BadFilter(ValueError):
    """Not a filter; the message says why and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter; None accepts everything, an empty set nothing."""

    ids: frozenset[str] | None = None
    authors: frozenset[str] | None = None
    kinds: frozenset[int] | None = None
    since: int | None = None
    until: int | None = None
    limit: int | None = None
    tags: Tags = ()

    def matches(self, event: Event) -> bool:
        """Return whether the event meets every condition of the filter."""
        return (
            (self.kinds is None or event.kind in self.kinds)
            and (self.authors is None or event.pubkey in self.authors)
            and (self.ids is None or event.id in self.ids)
            and (self.since is None or event.created_at >= self.since)
            and (self.until is None or event.created_at <= self.until)
            and all(
                not values.isdisjoint(event.values(name)) for name, values in self.tags
            )
        )

    def index_keys(self) -> list[Key]:
        """Return keys of which every matching event has one, the rarest there are."""
        if self.ids is not None:
            return [("id", one) for one in self.ids]
        if self.tags:
            # An event is answered by few, an author or a `p` may be named by many.
            name, values = min(self.tags, key=lambda tag: (tag[0] != "e", len(tag[1])))
            return [("#", name, value) for value in values]
        if self.authors is None:
            return (
                [("all",)] if self.kinds is None else [("kind", k) for k in self.kinds]
            )
        if (
            self.kinds is None
            or len(self.kinds) * len(self.authors) > MAX_AUTHOR_KIND_KEYS
        ):
            return [("author", author) for author in self.authors]
        return [("author", a, kind) for a in self.authors for kind in self.kinds]


def event_keys(event: Event) -> list[Key]:
    """Return every key by which a filter may look for the event."""
    return [
        ("id", event.id),
        *{("#", *tag[:2]) for tag in event.tags if len(tag) > 1 and len(tag[0]) == 1},
        ("author", event.pubkey),
        ("author", event.pubkey, event.kind),
        ("kind", event.kind),
        ("all",),
    ]


def parse_filter(data: object) -> Filter:
    """Read a filter from decoded JSON; unknown names are ignored. Raises BadFilter."""
    if not isinstance(data, dict):
        raise BadFilter("a filter is an object")
    known = {
        name: read(name, data[name]) for name, read in READERS.items() if name in data
    }
    tags = tuple(
        (_tag_name(name), _texts(name, data[name]))
        for name in data
        if name.startswith("#")
    )
    return Filter(**known, tags=tags)


def _tag_name(name: str) -> str:
    if not re.fullmatch("#[a-zA-Z]", name):
        raise BadFilter("only tags of a single letter are indexed")
    return name[1:]


def _texts(name: str, given: Any) -> frozenset[str]:
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise BadFilter(f"{name} is a list of texts")
    return frozenset(given)


def _hexes(name: str, given: Any) -> frozenset[str]:
    found = _texts(name, given)
    if not all(HEX.fullmatch(one) for one in found):
        raise BadFilter(f"{name} are 64 lower-case hex digits each")
    return found


def _kinds(name: str, given: Any) -> frozenset[int]:
    if not isinstance(given, list) or not all(
        type(one) is int and one in KINDS for one in given
    ):
        raise BadFilter("kinds is a list of numbers from 0 to 65535")
    return frozenset(given)


def _number(name: str, given: Any) -> int:
    if type(given) is not int or given < 0:
        raise BadFilter(f"{name} is a whole number from 0")
    return given


READERS: dict[str, Callable[[str, Any], Any]] = {
    "ids": _hexes,
    "authors": _hexes,
    "kinds": _kinds,
    "since": _number,
    "until": _number,
    "limit": _number,
}
