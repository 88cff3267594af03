"""In-memory store of records by kind and id, with an optional SQLite journal."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

Record = Mapping[str, Any]


class Row(NamedTuple):
    """Record with its position in the order of creation."""

    seq: int
    record: Record


class Change(NamedTuple):
    """Effect of one write; `record` is None for a deletion."""

    kind: str
    id: str
    seq: int
    record: Record | None


class Journal(Protocol):
    """Persistent storage of committed changes."""

    def load(self) -> Iterator[tuple[str, str, int, Record]]:
        """Yield every record as (kind, id, seq, record), ordered by seq."""

    def write(self, changes: list[Change]) -> None:
        """Write all changes in one transaction."""

    def replace(self, rows: Sequence[Change]) -> None:
        """Replace all records in one transaction."""

    def close(self) -> None:
        """Close the file."""


class Bucket:
    """Sorted seqs of the records that have one value of an indexed field."""

    __slots__ = ("seqs",)

    def __init__(self) -> None:
        self.seqs: list[int] = []

    def add(self, seq: int) -> None:
        insort(self.seqs, seq)

    def remove(self, seq: int) -> None:
        del self.seqs[bisect_left(self.seqs, seq)]


class Store:
    """Store whose records never change in place: a write replaces the whole record.

    The undo log of a transaction is therefore a list of references, and readers may
    keep records. The caller serializes access. `on_put(kind, seq, record)` is called
    for every write, including undone ones; a removed record has `deleted` set.
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
        """Remove the record. Raises KeyError if it does not exist."""
        self._undo.append((kind, id, self._rows[kind][id]))
        self._set(kind, id, None)

    def count(self, kind: str) -> int:
        """Return the number of records of a kind."""
        return len(self._rows.get(kind, {}))

    @property
    def written(self) -> int:
        """Number of records added so far, including deleted ones."""
        return self._next_seq - 1

    def counts(self) -> dict[str, int]:
        """Return the number of records of every kind."""
        return {kind: len(rows) for kind, rows in sorted(self._rows.items())}

    def oldest(self, kind: str, limit: int) -> list[Record]:
        """Return the oldest records of a kind, in order of creation."""
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

        `index` is a (field, value) pair of an indexed field. Only records after the one
        with the id `after` and before the one with the id `before` are yielded;
        `created` restricts the field of that name, with the keys gt, gte, lt and lte.
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
        # A copy: the caller may write while it iterates.
        selected = seqs[low:high]
        for seq in reversed(selected) if newest_first else selected:
            yield self._rows[kind][ids[seq]].record

    def commit(self) -> None:
        """Write all changes since the last commit to the journal."""
        if self._journal is not None and self._undo:
            self._journal.write(self._changes())
        self._undo.clear()

    def savepoint(self) -> int:
        """Return a position to roll back to, within the current transaction."""
        return len(self._undo)

    def rollback(self, savepoint: int = 0) -> None:
        """Undo all writes since the last commit or since a savepoint."""
        while len(self._undo) > savepoint:
            kind, id, row = self._undo.pop()
            self._set(kind, id, row)

    def clear(self) -> None:
        """Remove all records. Cannot be rolled back."""
        self.restore((), 1)

    def dump(self) -> tuple[tuple[Change, ...], int]:
        """Return all records in order of creation, and the next seq."""
        rows = [
            Change(kind, id, row.seq, row.record)
            for kind, by_id in self._rows.items()
            for id, row in by_id.items()
        ]
        return tuple(sorted(rows, key=lambda row: row.seq)), self._next_seq

    def restore(self, rows: Sequence[Change], next_seq: int) -> None:
        """Replace all records by the result of `dump`. Cannot be rolled back."""
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
            removed = Row(0, {"id": id, "deleted": True})
            self._on_put(kind, *(row or removed))

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

        def created_at(seq: int) -> int:
            return int(rows[ids[seq]].record["created"])

        low, high = 0, len(seqs)
        if "gte" in created:
            low = max(low, bisect_left(seqs, created["gte"], key=created_at))
        if "gt" in created:
            low = max(low, bisect_right(seqs, created["gt"], key=created_at))
        if "lte" in created:
            high = min(high, bisect_right(seqs, created["lte"], key=created_at))
        if "lt" in created:
            high = min(high, bisect_left(seqs, created["lt"], key=created_at))
        return low, high

    def _changes(self) -> list[Change]:
        # One change per record; none for a record that was created and deleted since.
        changes: dict[tuple[str, str], Change] = {}
        for kind, id, old in self._undo:
            row = self._rows[kind].get(id)
            if row is not None:
                changes[kind, id] = Change(kind, id, row.seq, row.record)
            elif old is not None:
                changes[kind, id] = Change(kind, id, old.seq, None)
        return list(changes.values())
