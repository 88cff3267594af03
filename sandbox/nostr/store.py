"""The events a relay stores: of every kind, wallet messages too, as some relays do."""

from collections import OrderedDict
from collections.abc import Iterable
from enum import Enum, auto
from itertools import chain

from caravel.nostr.events import Event
from sandbox.nostr.filters import Filter, Key, event_keys
from sandbox.nostr.index import Index

Address = tuple[int, str, str]

EPHEMERAL = range(20_000, 30_000)
ADDRESSABLE = range(30_000, 40_000)


class Outcome(Enum):
    """What became of an event that was to be stored."""

    STORED = auto()
    DUPLICATE = auto()
    OUTDATED = auto()


class Record:
    """An event as it is stored, with what is needed of it again and again."""

    __slots__ = ("address", "event", "expires_at", "json", "keys")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.json = event.to_json()
        self.keys: list[Key] = event_keys(event)
        self.expires_at = expiration(event)
        self.address = address(event)

    def is_expired(self, now: float) -> bool:
        """Return whether its time is over (NIP-40), in seconds of the epoch."""
        return self.expires_at is not None and self.expires_at <= now


class EventStore:
    """Events by what filters look for; the oldest leaves when there are too many."""

    def __init__(self) -> None:
        self._index: Index[Record] = Index()
        self._addresses: dict[Address, Record] = {}
        # By age, since the ephemeral ones leave first.
        self._ephemeral: OrderedDict[str, Record] = OrderedDict()
        self._persistent: OrderedDict[str, Record] = OrderedDict()

    def put(self, record: Record, *, max_events: int) -> Outcome:
        """Store an event unless it or a newer one is here; keep that many at most."""
        if record.event.id in self._ephemeral or record.event.id in self._persistent:
            return Outcome.DUPLICATE
        if record.address is not None:
            present = self._addresses.get(record.address)
            if present and _newest_first(present) < _newest_first(record):
                return Outcome.OUTDATED
            if present:
                self._remove(present)
            self._addresses[record.address] = record
        self._add(record)
        while len(self) > max_events:
            self._remove(next(iter((self._ephemeral or self._persistent).values())))
        return Outcome.STORED

    def query(
        self, filters: Iterable[Filter], *, max_results: int, now: float | None
    ) -> list[Record]:
        """Return what any of the filters finds, newest first, that many of each.

        What is expired at `now` is left out.
        """
        found = chain.from_iterable(
            self._query(one, max_results, now) for one in filters
        )
        return sorted(dict.fromkeys(found), key=_newest_first)

    def records(self) -> list[Record]:
        """Return all, the newest by creation first."""
        return self.query([Filter()], max_results=len(self), now=None)

    def __len__(self) -> int:
        return len(self._ephemeral) + len(self._persistent)

    def _query(
        self, wanted: Filter, max_results: int, now: float | None
    ) -> list[Record]:
        found = [
            record
            for record in self._index.find(wanted.index_keys())
            if wanted.matches(record.event)
            and not (now is not None and record.is_expired(now))
        ]
        found.sort(key=_newest_first)
        if wanted.limit is not None:
            max_results = min(wanted.limit, max_results)
        return found[:max_results]

    def _part(self, record: Record) -> OrderedDict[str, Record]:
        return self._ephemeral if record.event.kind in EPHEMERAL else self._persistent

    def _add(self, record: Record) -> None:
        self._part(record)[record.event.id] = record
        self._index.add(record.keys, record)

    def _remove(self, record: Record) -> None:
        del self._part(record)[record.event.id]
        self._index.remove(record.keys, record)
        if record.address is not None and self._addresses[record.address] is record:
            del self._addresses[record.address]


def address(event: Event) -> Address | None:
    """Return what only one event can have at a time (NIP-01), None for most kinds."""
    kind = event.kind
    if kind in (0, 3) or 10_000 <= kind < 20_000:
        return kind, event.pubkey, ""
    if kind in ADDRESSABLE:
        return kind, event.pubkey, next(iter(event.values("d")), "")
    return None


def expiration(event: Event) -> int | None:
    """Return when the event expires, in seconds of the epoch (NIP-40).

    A tag that holds no number is as good as none.
    """
    text = next(iter(event.values("expiration")), "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _newest_first(record: Record) -> tuple[int, str]:
    """Sort newest first; of two at the same second the lower id comes first."""
    return -record.event.created_at, record.event.id
