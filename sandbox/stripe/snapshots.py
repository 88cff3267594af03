"""Named copies of the whole account, to go back to.

Records are never changed in place, so a copy is a list of references. With a state file
the copies are kept in it too, for after a restart.
"""

import json
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from sandbox.stripe.protocol.http import dump_json
from sandbox.stripe.store import Change

FASTEST = 1


class NoSuchSnapshot(KeyError):
    """No snapshot has this name."""


class Shelf(Protocol):
    """Where snapshots outlive the process."""

    def load_snapshots(self) -> list[tuple[str, str, bytes]]:
        """Return every snapshot: its name, what `list` says of it, its content."""

    def keep_snapshot(self, name: str, about: str, content: bytes) -> None:
        """Keep a snapshot, in place of an earlier one of the name."""

    def drop_snapshots(self) -> None:
        """Forget all snapshots."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the account is at a moment of its clock."""

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
    """Return the snapshot that was packed."""
    now, paused, ids, next_seq, rows = json.loads(zlib.decompress(content))
    return Snapshot(now, paused, ids, next_seq, tuple(Change(*row) for row in rows))


@dataclass(frozen=True, slots=True)
class _Kept:
    about: dict[str, Any]
    load: Callable[[], Snapshot]


class Snapshots:
    """Snapshots by name; a later one replaces the earlier of its name."""

    def __init__(self, shelf: Shelf | None = None) -> None:
        self._shelf = shelf
        self._kept: dict[str, _Kept] = {}
        for name, about, content in shelf.load_snapshots() if shelf else ():
            self._kept[name] = _Kept(json.loads(about), _unpacking(content))

    def keep(self, name: str, snapshot: Snapshot) -> dict[str, Any]:
        """Keep a snapshot; return what `list` says of it."""
        public = [row for row in snapshot.rows if not row.kind.startswith("_")]
        about = {
            "name": name,
            "now": snapshot.now,
            "objects": len(public),
            "taken_at": int(time.time()),
        }
        self._kept.pop(name, None)
        self._kept[name] = _Kept(about, lambda: snapshot)
        if self._shelf is not None:
            self._shelf.keep_snapshot(name, dump_json(about), snapshot.pack())
        return about

    def get(self, name: str) -> Snapshot:
        """Return a snapshot. Raises NoSuchSnapshot."""
        if name not in self._kept:
            raise NoSuchSnapshot(name)
        return self._kept[name].load()

    def list(self) -> list[dict[str, Any]]:
        """Return name, time and size of each snapshot, oldest first."""
        return [kept.about for kept in self._kept.values()]

    def clear(self) -> None:
        """Forget all snapshots."""
        self._kept.clear()
        if self._shelf is not None:
            self._shelf.drop_snapshots()


def _unpacking(content: bytes) -> Callable[[], Snapshot]:
    return lambda: unpack(content)
