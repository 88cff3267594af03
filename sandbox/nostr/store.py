"""Storage of a relay, for events of every kind, including wallet messages."""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import chain

from sandbox.common.nostr import Event
from sandbox.nostr.filters import Filter, Index, Key, event_keys

Address = tuple[int, str, str]

EPHEMERAL = range(20_000, 30_000)
ADDRESSABLE = range(30_000, 40_000)


class Record:
    """A stored event with values that are needed often."""

    __slots__ = ("address", "event", "json", "keys")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.json = event.to_json()
        self.keys: list[Key] = event_keys(event)
        self.address = address(event)


class EventStore:
    """Indexed events; the oldest is deleted when there are too many."""

    def __init__(self) -> None:
        self._index: Index[Record] = Index()
        self._addresses: dict[Address, Record] = {}
        # Two dictionaries, oldest first: ephemeral events are deleted first.
        self._ephemeral: OrderedDict[str, Record] = OrderedDict()
        self._persistent: OrderedDict[str, Record] = OrderedDict()

    def put(self, record: Record, *, max_events: int) -> str:
        """Store an event; return "", or why it is not stored."""
        if record.event.id in self._part(record.event):
            return "duplicate: already have this event"
        if record.address is not None:
            existing = self._addresses.get(record.address)
            if existing and _newest_first(existing) < _newest_first(record):
                return "duplicate: have a newer event"
            if existing:
                self._remove(existing)
            self._addresses[record.address] = record
        self._part(record.event)[record.event.id] = record
        self._index.add(record.keys, record)
        while len(self) > max_events:
            self._remove(next(iter((self._ephemeral or self._persistent).values())))
        return ""

    def query(
        self, filters: Iterable[Filter], *, max_results: int, now: float | None
    ) -> list[Record]:
        """Return the events that match any filter, at most `max_results` each.

        Newest first, without those that are expired at `now`.
        """
        records = chain.from_iterable(
            self._query(filter, max_results, now) for filter in filters
        )
        return sorted(dict.fromkeys(records), key=_newest_first)

    def delete(self, kind: int, author: str) -> None:
        """Delete all events of a kind and an author."""
        for record in self.records():
            if (record.event.kind, record.event.pubkey) == (kind, author):
                self._remove(record)

    def records(self) -> list[Record]:
        """Return all events, newest first."""
        return self.query([Filter()], max_results=len(self), now=None)

    def __len__(self) -> int:
        return len(self._ephemeral) + len(self._persistent)

    def _query(
        self, filter: Filter, max_results: int, now: float | None
    ) -> list[Record]:
        records = [
            record
            for record in self._index.find(filter.index_keys())
            if filter.matches(record.event)
            and not (now is not None and record.event.is_expired(now))
        ]
        records.sort(key=_newest_first)
        if filter.limit is not None:
            max_results = min(filter.limit, max_results)
        return records[:max_results]

    def _part(self, event: Event) -> OrderedDict[str, Record]:
        return self._ephemeral if event.kind in EPHEMERAL else self._persistent

    def _remove(self, record: Record) -> None:
        del self._part(record.event)[record.event.id]
        self._index.remove(record.keys, record)
        if record.address is not None and self._addresses[record.address] is record:
            del self._addresses[record.address]


def address(event: Event) -> Address | None:
    """Return the key of a replaceable or addressable event (NIP-01), else None."""
    kind = event.kind
    if kind in (0, 3) or 10_000 <= kind < 20_000:
        return kind, event.pubkey, ""
    if kind in ADDRESSABLE:
        return kind, event.pubkey, next(iter(event.values("d")), "")
    return None


def _newest_first(record: Record) -> tuple[int, str]:
    """Sort key: newest first; the lower id first within a second, as NIP-01 says."""
    return -record.event.created_at, record.event.id
