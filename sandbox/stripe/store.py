"""Objects by kind and id, in order of creation, written through to SQLite."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

Record = Mapping[str, Any]


class Row(NamedTuple):
    """A record and its place in the order of creation."""

    seq: int
    record: Record


class Change(NamedTuple):
    """What one write did; `record` is None for a deletion."""

    kind: str
    id: str
    seq: int
    record: Record | None


class Journal(Protocol):
    """Where committed changes go, and come back from at the start."""

    def load(self) -> Iterator[tuple[str, str, int, Record]]:
        """Yield every record as (kind, id, seq, record), in order of seq."""

    def write(self, changes: list[Change]) -> None:
        """Make the changes durable, all or none."""

    def replace(self, rows: Sequence[Change]) -> None:
        """Make these all the records there are, or change nothing."""

    def close(self) -> None:
        """Release the file."""


class Bucket:
    """The seqs of the records that share one value of an indexed field."""

    __slots__ = ("seqs",)

    def __init__(self) -> None:
        self.seqs: list[int] = []

    def add(self, seq: int) -> None:
        insort(self.seqs, seq)

    def remove(self, seq: int) -> None:
        del self.seqs[bisect_left(self.seqs, seq)]


class Store:
    """Records never change in place: a write replaces the whole record.

    That makes a transaction's undo log a list of earlier references, and lets
    readers keep what they got. The caller serializes access. `on_put` is told of every
    write, also of an undone one; of what is gone as if it were marked deleted.
    """

    def __init__(
        self,
        indexes: Mapping[str, tuple[str, ...]],
        journal: Journal | None = None,
        on_put: Callable[[str, int, Record], None] | None = None,
    ) -> None:
        self._indexes = indexes
        self._journal = journal
        self._on_put = on_put
        self._next_seq: int
        self._clear()
        if journal is not None:
            for kind, id, seq, record in journal.load():
                self._set(kind, id, Row(seq, record))
                self._next_seq = seq + 1

    def get(self, kind: str, id: str) -> Record | None:
        """Return the record, or None."""
        row = self._rows.get(kind, {}).get(id)
        return row.record if row else None

    def put(self, kind: str, record: Record) -> None:
        """Add the record, or replace the one with its id."""
        id = record["id"]
        old = self._rows.get(kind, {}).get(id)
        self._undo.append((kind, id, old))
        self._set(kind, id, Row(old.seq if old else self._take_seq(), record))

    def delete(self, kind: str, id: str) -> None:
        """Remove the record. Raises KeyError when there is none."""
        self._undo.append((kind, id, self._rows[kind][id]))
        self._set(kind, id, None)

    def count(self, kind: str) -> int:
        """Return how many records of a kind there are."""
        return len(self._rows.get(kind, {}))

    @property
    def written(self) -> int:
        """How many records have ever been added."""
        return self._next_seq - 1

    def counts(self) -> dict[str, int]:
        """Return the number of records of every kind."""
        return {kind: len(rows) for kind, rows in sorted(self._rows.items())}

    def oldest(self, kind: str, limit: int) -> list[Record]:
        """Return the first records of a kind, in order of creation."""
        seqs = self._bucket(kind, None).seqs[:limit]
        return [self._rows[kind][self._ids[seq]].record for seq in seqs]

    def scan(
        self,
        kind: str,
        *,
        index: tuple[str, str] | None = None,
        after: str | None = None,
        before: str | None = None,
        created: Mapping[str, int] | None = None,
        newest_first: bool = True,
    ) -> Iterator[Record]:
        """Yield records in order of creation.

        `index` narrows to one value of an indexed field; `after` and `before` are
        ids of a record older, newer than all that is yielded; `created` bounds it.
        """
        seqs = self._bucket(kind, index).seqs
        low, high = 0, len(seqs)
        if after is not None:
            low = bisect_right(seqs, self._rows[kind][after].seq)
        if before is not None:
            high = bisect_left(seqs, self._rows[kind][before].seq)
        if created:
            first, last = self._created_bounds(kind, seqs, created)
            low, high = max(low, first), min(high, last)
        ids = self._ids
        chosen = seqs[low:high]
        for seq in reversed(chosen) if newest_first else chosen:
            yield self._rows[kind][ids[seq]].record

    def commit(self) -> None:
        """Make every write since the last commit durable."""
        if self._journal is not None and self._undo:
            self._journal.write(self._changes())
        self._undo.clear()

    def savepoint(self) -> int:
        """Return the place in the writes since the last commit."""
        return len(self._undo)

    def rollback(self, savepoint: int = 0) -> None:
        """Undo every write since the last commit, or since a savepoint."""
        while len(self._undo) > savepoint:
            kind, id, row = self._undo.pop()
            self._set(kind, id, row)

    def clear(self) -> None:
        """Remove every record, at once and for good."""
        self.restore((), 1)

    def dump(self) -> tuple[tuple[Change, ...], int]:
        """Return every record, in order of creation, and the place of the next."""
        rows = [
            Change(kind, id, row.seq, row.record)
            for kind, kept in self._rows.items()
            for id, row in kept.items()
        ]
        return tuple(sorted(rows, key=lambda row: row.seq)), self._next_seq

    def restore(self, rows: Sequence[Change], next_seq: int) -> None:
        """Make what was dumped all there is, at once and for good."""
        self._clear()
        for kind, id, seq, record in rows:
            if record is not None:
                self._set(kind, id, Row(seq, record))
        self._next_seq = next_seq
        if self._journal is not None:
            self._journal.replace(rows)

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()

    def _clear(self) -> None:
        self._rows: dict[str, dict[str, Row]] = {}
        self._ids: dict[int, str] = {}
        self._buckets: dict[tuple[str, str, str], Bucket] = {}
        self._all: dict[str, Bucket] = {}
        self._undo: list[tuple[str, str, Row | None]] = []
        self._next_seq = 1

    def _take_seq(self) -> int:
        seq = self._next_seq
        self._next_seq += 1
        return seq

    def _set(self, kind: str, id: str, row: Row | None) -> None:
        rows = self._rows.setdefault(kind, {})
        old = rows.get(id)
        if old is not None:
            self._unindex(kind, old, keep=row)
        if row is None:
            rows.pop(id, None)
        else:
            rows[id] = row
            self._index(kind, id, row, old)
        if self._on_put is not None:
            gone = Row(0, {"id": id, "deleted": True})
            self._on_put(kind, *(row or gone))

    def _index(self, kind: str, id: str, row: Row, old: Row | None) -> None:
        if old is None:
            self._ids[row.seq] = id
            self._all.setdefault(kind, Bucket()).add(row.seq)
        for field in self._indexes.get(kind, ()):
            value = row.record.get(field)
            if value is not None and (old is None or old.record.get(field) != value):
                key = (kind, field, value)
                self._buckets.setdefault(key, Bucket()).add(row.seq)

    def _unindex(self, kind: str, old: Row, keep: Row | None) -> None:
        for field in self._indexes.get(kind, ()):
            value = old.record.get(field)
            if value is None or (keep and keep.record.get(field) == value):
                continue
            bucket = self._buckets[kind, field, value]
            bucket.remove(old.seq)
            if not bucket.seqs:
                del self._buckets[kind, field, value]
        if keep is None:
            self._all[kind].remove(old.seq)
            del self._ids[old.seq]

    def _bucket(self, kind: str, index: tuple[str, str] | None) -> Bucket:
        if index is None:
            return self._all.get(kind) or Bucket()
        return self._buckets.get((kind, *index)) or Bucket()

    def _created_bounds(
        self, kind: str, seqs: list[int], created: Mapping[str, int]
    ) -> tuple[int, int]:
        rows, ids = self._rows[kind] if seqs else {}, self._ids

        def moment(seq: int) -> int:
            return int(rows[ids[seq]].record["created"])

        low, high = 0, len(seqs)
        if "gte" in created:
            low = max(low, bisect_left(seqs, created["gte"], key=moment))
        if "gt" in created:
            low = max(low, bisect_right(seqs, created["gt"], key=moment))
        if "lte" in created:
            high = min(high, bisect_right(seqs, created["lte"], key=moment))
        if "lt" in created:
            high = min(high, bisect_left(seqs, created["lt"], key=moment))
        return low, high

    def _changes(self) -> list[Change]:
        changes: dict[tuple[str, str], Change] = {}
        for kind, id, old in self._undo:
            row = self._rows[kind].get(id)
            if row is not None:
                changes[kind, id] = Change(kind, id, row.seq, row.record)
            elif old is not None:
                changes[kind, id] = Change(kind, id, old.seq, None)
        return list(changes.values())
