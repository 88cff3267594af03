"""Named snapshots of the whole account.

Records are never changed in place, so a snapshot is a list of references. With a state
file, snapshots are written to it and survive a restart.
"""

import json
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from sandbox.common.http import dump_json
from sandbox.stripe.store.sqlite import Change, SqliteJournal

FASTEST = 1


class NoSuchSnapshot(KeyError):
    """No snapshot has this name."""


class Snapshot(NamedTuple):
    """State of the account at a time of its clock."""

    now: int
    paused: bool
    ids: Any
    next_seq: int
    rows: tuple[Change, ...]

    def pack(self) -> bytes:
        """Return the snapshot as compressed JSON."""
        return zlib.compress(dump_json(self).encode(), FASTEST)


def unpack(content: bytes) -> Snapshot:
    """Return the snapshot from the result of `pack`."""
    now, paused, ids, next_seq, rows = json.loads(zlib.decompress(content))
    return Snapshot(now, paused, ids, next_seq, tuple(Change(*row) for row in rows))


class Snapshots:
    """Snapshots by name."""

    def __init__(self, store: SqliteJournal | None = None) -> None:
        self._store = store
        # The summary of each; those from a state file are unpacked on demand.
        self._entries: dict[str, tuple[dict[str, Any], Callable[[], Snapshot]]] = {}
        for name, summary, content in store.load_snapshots() if store else ():
            self._entries[name] = json.loads(summary), partial(unpack, content)

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
        self._entries[name] = summary, lambda: snapshot
        if self._store is not None:
            self._store.save_snapshot(name, dump_json(summary), snapshot.pack())
        return summary

    def get(self, name: str) -> Snapshot:
        """Return a snapshot. Raises NoSuchSnapshot."""
        if name not in self._entries:
            raise NoSuchSnapshot(name)
        return self._entries[name][1]()

    def list(self) -> list[dict[str, Any]]:
        """Return the summary of each snapshot, oldest first."""
        return [summary for summary, _ in self._entries.values()]

    def clear(self) -> None:
        """Delete all snapshots."""
        self._entries.clear()
        if self._store is not None:
            self._store.delete_snapshots()
