"""Named snapshots of the whole account.

Records are never changed in place, so a snapshot is a list of references. With a state
file, snapshots are written to it and survive a restart.
"""

import json
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sandbox.common.http import dump_json
from sandbox.stripe.store.sqlite import Change, SqliteJournal

FASTEST = 1


class NoSuchSnapshot(KeyError):
    """No snapshot has this name."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of the account at a time of its clock."""

    now: int
    paused: bool
    ids: Any
    next_seq: int
    rows: tuple[Change, ...]

    def pack(self) -> bytes:
        """Return the snapshot as compressed JSON."""
        values = [self.now, self.paused, self.ids, self.next_seq, self.rows]
        return zlib.compress(dump_json(values).encode(), FASTEST)


def unpack(content: bytes) -> Snapshot:
    """Return the snapshot from the result of `pack`."""
    now, paused, ids, next_seq, rows = json.loads(zlib.decompress(content))
    return Snapshot(now, paused, ids, next_seq, tuple(Change(*row) for row in rows))


@dataclass(frozen=True, slots=True)
class _Entry:
    summary: dict[str, Any]
    # Snapshots from a state file are unpacked on demand.
    load: Callable[[], Snapshot]


class Snapshots:
    """Snapshots by name."""

    def __init__(self, store: SqliteJournal | None = None) -> None:
        self._store = store
        self._entries: dict[str, _Entry] = {}
        for name, summary, content in store.load_snapshots() if store else ():
            load = partial(unpack, content)
            self._entries[name] = _Entry(json.loads(summary), load)

    def save(self, name: str, snapshot: Snapshot) -> dict[str, Any]:
        """Save a snapshot, replacing one with the same name; return its summary."""
        public = [row for row in snapshot.rows if not row.kind.startswith("_")]
        summary = {
            "name": name,
            "now": snapshot.now,
            "objects": len(public),
            "taken_at": int(time.time()),
        }
        # Moves the name to the end: `list` is ordered by age.
        self._entries.pop(name, None)
        self._entries[name] = _Entry(summary, lambda: snapshot)
        if self._store is not None:
            self._store.save_snapshot(name, dump_json(summary), snapshot.pack())
        return summary

    def get(self, name: str) -> Snapshot:
        """Return a snapshot. Raises NoSuchSnapshot."""
        if name not in self._entries:
            raise NoSuchSnapshot(name)
        return self._entries[name].load()

    def list(self) -> list[dict[str, Any]]:
        """Return the summary of each snapshot, oldest first."""
        return [entry.summary for entry in self._entries.values()]

    def clear(self) -> None:
        """Delete all snapshots."""
        self._entries.clear()
        if self._store is not None:
            self._store.delete_snapshots()
