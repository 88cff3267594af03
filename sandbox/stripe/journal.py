"""The SQLite file behind a store: state survives a restart or a SIGKILL."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from sandbox.stripe.protocol.http import dump_json
from sandbox.stripe.store import Change, Record

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshots (
    name TEXT PRIMARY KEY, about TEXT NOT NULL, content BLOB NOT NULL
);
"""
#: Grows when records are written differently, so that older ones would be misread.
FORMAT = 2
INSERT = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)"


class UnreadableState(Exception):
    """The file is no state, or that of another version of the sandbox."""


class SqliteJournal:
    """One row per record, one transaction per write.

    `synchronous=OFF` hands pages to the operating system without waiting for the
    disk: enough against the death of the process, not against a power cut.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it. Raises UnreadableState."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            known = self._is_readable()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise UnreadableState(f"{path} cannot be read: {error}.") from error
        if not known:
            self._db.close()
            raise UnreadableState(
                f"{path} was written by another version of the sandbox. Delete it."
            )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(f"PRAGMA user_version={FORMAT}")
        self._db.executescript(SCHEMA)

    def _is_readable(self) -> bool:
        """Return whether the file is new or of our format."""
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (format,) = self._db.execute("PRAGMA user_version").fetchone()
        return bool(tables == 0 or format == FORMAT)

    def load(self) -> Iterator[tuple[str, str, int, Record]]:
        """Yield every record as (kind, id, seq, record), in order of seq."""
        rows = self._db.execute("SELECT kind, id, seq, body FROM records ORDER BY seq")
        for kind, id, seq, body in rows:
            yield kind, id, seq, json.loads(body)

    def write(self, changes: list[Change]) -> None:
        """Make the changes durable, all or none."""
        self._db.execute("BEGIN")
        for change in changes:
            if change.record is None:
                self._db.execute(
                    "DELETE FROM records WHERE kind = ? AND id = ?",
                    (change.kind, change.id),
                )
            else:
                self._db.execute(
                    INSERT,
                    (change.kind, change.id, change.seq, dump_json(change.record)),
                )
        self._db.execute("COMMIT")

    def replace(self, rows: Sequence[Change]) -> None:
        """Make these all the records there are, or change nothing."""
        self._db.execute("BEGIN")
        self._db.execute("DELETE FROM records")
        self._db.executemany(
            INSERT,
            ((row.kind, row.id, row.seq, dump_json(row.record)) for row in rows),
        )
        self._db.execute("COMMIT")

    def load_snapshots(self) -> list[tuple[str, str, bytes]]:
        """Return every snapshot: its name, what is said of it, its content."""
        query = "SELECT name, about, content FROM snapshots ORDER BY rowid"
        return self._db.execute(query).fetchall()

    def keep_snapshot(self, name: str, about: str, content: bytes) -> None:
        """Keep a snapshot, in place of an earlier one of the name."""
        self._db.execute(
            "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", (name, about, content)
        )

    def drop_snapshots(self) -> None:
        """Forget all snapshots."""
        self._db.execute("DELETE FROM snapshots")

    def close(self) -> None:
        """Release the file."""
        self._db.close()
