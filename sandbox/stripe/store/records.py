"""In-memory store of records by kind and id, with an optional SQLite journal."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sandbox.stripe.store.sqlite import Change, SqliteJournal

Record = Mapping[str, Any]
# A kind with an indexed field and its value; without a field, all records of the kind.
Key = tuple[str, str, Any]
BOUNDS: Mapping[str, Callable[..., int]] = {
    "gte": bisect_left,
    "gt": bisect_right,
    "lt": bisect_left,
    "lte": bisect_right,
}


class Row(NamedTuple):
    """Record with its position in the order of creation."""

    seq: int
    record: Record


class Store:
    """Store whose records never change in place: a write replaces the whole record.

    The undo log of a transaction is therefore a list of references, and readers may
    keep records. The caller serializes access. `on_put(kind, seq, record)` is called
    for every write, including undone ones; a removed record has `deleted` set.
    """

    def __init__(
        self,
        indexes: Mapping[str, tuple[str, ...]],
        journal: SqliteJournal | None = None,
        on_put: Callable[[str, int, Record], None] | None = None,
    ) -> None:
        self._indexes = indexes
        self._journal = journal
        self._on_put = on_put
        self._next_seq: int
        self._clear()
        self._load(journal.load() if journal else ())

    def get(self, kind: str, id: str) -> Record | None:
        """Return the record, or None."""
        row = self._rows.get(kind, {}).get(id)
        return row.record if row else None

    def put(self, kind: str, record: Record) -> None:
        """Add the record, or replace the one with its id."""
        id = record["id"]
        old = self._rows.get(kind, {}).get(id)
        self._undo.append((kind, id, old))
        self._set(kind, id, Row(old.seq if old else self._next_seq, record))
        if old is None:
            self._next_seq += 1

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
        entries = self._entries(kind, None)[:limit]
        return [self._rows[kind][id].record for _, id in entries]

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
        entries, rows = self._entries(kind, index), self._rows.get(kind, {})
        low, high = 0, len(entries)
        for name, at in (created or {}).items():
            position = BOUNDS[name](
                entries, at, key=lambda entry: rows[entry[1]].record["created"]
            )
            if name in ("gte", "gt"):
                low = max(low, position)
            else:
                high = min(high, position)
        if after is not None:
            low = max(low, bisect_left(entries, (rows[after].seq + 1, "")))
        if before is not None:
            high = min(high, bisect_left(entries, (rows[before].seq, "")))
        # A copy: the caller may write while it iterates.
        selected = entries[low:high]
        for _, id in reversed(selected) if newest_first else selected:
            yield rows[id].record

    def commit(self) -> None:
        """Write all changes since the last commit to the journal."""
        if self._journal is not None and self._undo:
            self._journal.write(self._changes())
        self._undo.clear()

    def rollback(self) -> None:
        """Undo all writes since the last commit."""
        self._undo_to(0)

    @contextmanager
    def discard(self) -> Iterator[None]:
        """Undo the writes made inside."""
        mark = len(self._undo)
        try:
            yield
        finally:
            self._undo_to(mark)

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
        self._load(rows)
        self._next_seq = next_seq
        if self._journal is not None:
            self._journal.replace(rows)

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()

    def _undo_to(self, mark: int) -> None:
        while len(self._undo) > mark:
            kind, id, row = self._undo.pop()
            self._set(kind, id, row)

    def _clear(self) -> None:
        self._rows: dict[str, dict[str, Row]] = {}
        # Sorted positions and ids of the records, by each of their keys.
        self._index: dict[Key, list[tuple[int, str]]] = {}
        self._undo: list[tuple[str, str, Row | None]] = []
        self._next_seq = 1

    def _load(self, rows: Iterable[Change]) -> None:
        for kind, id, seq, record in rows:
            if record is not None:
                self._set(kind, id, Row(seq, record))
            self._next_seq = seq + 1

    def _set(self, kind: str, id: str, row: Row | None) -> None:
        rows = self._rows.setdefault(kind, {})
        old = rows.get(id)
        self._update_index(kind, id, old, row)
        if row is None:
            rows.pop(id, None)
        else:
            rows[id] = row
        if self._on_put is not None:
            removed = Row(0, {"id": id, "deleted": True})
            self._on_put(kind, *(row or removed))

    def _update_index(
        self, kind: str, id: str, old: Row | None, new: Row | None
    ) -> None:
        if old is None and new is not None:
            self._add((kind, "", None), new.seq, id)
        if old is not None and new is None:
            self._remove((kind, "", None), old.seq, id)
        for field in self._indexes.get(kind, ()):
            old_value = old.record.get(field) if old else None
            new_value = new.record.get(field) if new else None
            if old and old_value is not None and old_value != new_value:
                self._remove((kind, field, old_value), old.seq, id)
            if new and new_value is not None and old_value != new_value:
                self._add((kind, field, new_value), new.seq, id)

    def _add(self, key: Key, seq: int, id: str) -> None:
        entries = self._index.setdefault(key, [])
        # Usually the newest record.
        if not entries or entries[-1][0] < seq:
            entries.append((seq, id))
        else:
            insort(entries, (seq, id))

    def _remove(self, key: Key, seq: int, id: str) -> None:
        entries = self._index[key]
        del entries[bisect_left(entries, (seq, id))]
        if not entries:
            del self._index[key]

    def _entries(
        self, kind: str, index: tuple[str, str] | None
    ) -> list[tuple[int, str]]:
        return self._index.get((kind, *(index or ("", None))), [])

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
