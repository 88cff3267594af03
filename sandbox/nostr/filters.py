"""NIP-01 filters: parsing and matching, and an index to find what they match."""

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sandbox.common.nostr import HEX, KINDS, Event

T = TypeVar("T", bound=Hashable)

# An index key: a field and its value; `("all",)` finds every event.
Key = tuple[str | int, ...]
Tags = tuple[tuple[str, frozenset[str]], ...]

# Filters with more pairs of author and kind are indexed by author only.
MAX_AUTHOR_KIND_KEYS = 1_000


class BadFilter(ValueError):
    """An invalid filter; the message contains no part of it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter; None matches every event, an empty set none."""

    ids: frozenset[str] | None = None
    authors: frozenset[str] | None = None
    kinds: frozenset[int] | None = None
    since: int | None = None
    until: int | None = None
    limit: int | None = None
    tags: Tags = ()

    def matches(self, event: Event) -> bool:
        """Return whether the event meets all conditions of the filter."""
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

    @property
    def is_broad(self) -> bool:
        """True if neither the author nor the recipient of its events is given."""
        return self.authors is None and "p" not in dict(self.tags)

    def index_keys(self) -> list[Key]:
        """Return the most selective index keys; a matching event has one of them."""
        if self.ids is not None:
            return [("id", id) for id in self.ids]
        if self.tags:
            # `e` first: few events refer to one event, but many to one author or `p`.
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
    """Return all keys under which a filter may look for the event."""
    return [
        ("id", event.id),
        *{("#", *tag[:2]) for tag in event.tags if len(tag) > 1 and len(tag[0]) == 1},
        ("author", event.pubkey),
        ("author", event.pubkey, event.kind),
        ("kind", event.kind),
        ("all",),
    ]


class Index(Generic[T]):
    """Items by key; one item can have several keys."""

    def __init__(self) -> None:
        self._items: dict[Key, dict[T, None]] = {}

    def add(self, keys: Iterable[Key], item: T) -> None:
        """Add an item under each key."""
        for key in keys:
            self._items.setdefault(key, {})[item] = None

    def remove(self, keys: Iterable[Key], item: T) -> None:
        """Remove an item that was added under these keys."""
        for key in keys:
            items = self._items[key]
            del items[item]
            if not items:
                del self._items[key]

    def __len__(self) -> int:
        return len({item for items in self._items.values() for item in items})

    def find(self, keys: Iterable[Key]) -> list[T]:
        """Return the items under any of the keys, each once."""
        items: dict[T, None] = {}
        for key in keys:
            items.update(self._items.get(key, {}))
        return list(items)


def parse_filter(data: object) -> Filter:
    """Parse decoded JSON; unknown names are ignored. Raises BadFilter."""
    if not isinstance(data, dict):
        raise BadFilter("a filter must be an object")
    fields = {
        name: read(name, data[name]) for name, read in READERS.items() if name in data
    }
    tag_names = [name for name in data if name.startswith("#")]
    if not all(re.fullmatch("#[a-zA-Z]", name) for name in tag_names):
        raise BadFilter("only tags of a single letter are indexed")
    tags = tuple((name[1:], _texts(name, data[name])) for name in tag_names)
    return Filter(**fields, tags=tags)


def _texts(name: str, value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadFilter(f"{name} must be a list of strings")
    return frozenset(value)


def _hexes(name: str, value: Any) -> frozenset[str]:
    hexes = _texts(name, value)
    if not all(HEX.fullmatch(text) for text in hexes):
        raise BadFilter(f"{name} must have 64 lower-case hex digits each")
    return hexes


def _kinds(name: str, value: Any) -> frozenset[int]:
    if not isinstance(value, list) or not all(
        type(kind) is int and kind in KINDS for kind in value
    ):
        raise BadFilter("kinds must be a list of numbers from 0 to 65535")
    return frozenset(value)


def _number(name: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise BadFilter(f"{name} must be an integer, at least 0")
    return value


READERS: dict[str, Callable[[str, Any], Any]] = {
    "ids": _hexes,
    "authors": _hexes,
    "kinds": _kinds,
    "since": _number,
    "until": _number,
    "limit": _number,
}
