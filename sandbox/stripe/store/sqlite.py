"""SQLite file of a store: the state survives restarts and SIGKILL."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sandbox.common.http import dump_json
from sandbox.common.state import open_database

SCHEMA = """
CREATE TABLE records (
    kind TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE snapshots (
    name TEXT PRIMARY KEY, about TEXT NOT NULL, content BLOB NOT NULL
);
"""
#: Incremented whenever the format of records changes.
FORMAT = 2
DELETE = "DELETE FROM records WHERE kind = ? AND id = ?"
INSERT = "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)"


class Change(NamedTuple):
    """Effect of one write; `record` is None for a deletion."""

    kind: str
    id: str
    seq: int
    record: Mapping[str, Any] | None


class SqliteJournal:
    """Journal with one row per record and one transaction per write."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises UnreadableState."""
        # The caller of the store serializes access.
        self._db = open_database(path, SCHEMA, FORMAT)

    def load(self) -> Iterator[Change]:
        """Yield every record, ordered by seq."""
        rows = self._db.execute("SELECT kind, id, seq, body FROM records ORDER BY seq")
        for kind, id, seq, body in rows:
            yield Change(kind, id, seq, json.loads(body))

    def write(self, changes: list[Change]) -> None:
        """Write all changes in one transaction."""
        self._db.execute("BEGIN")
        for kind, id, seq, record in changes:
            if record is None:
                self._db.execute(DELETE, (kind, id))
            else:
                self._db.execute(INSERT, (kind, id, seq, dump_json(record)))
        self._db.execute("COMMIT")

    def replace(self, rows: Sequence[Change]) -> None:
        """Replace all records in one transaction."""
        self._db.execute("BEGIN")
        self._db.execute("DELETE FROM records")
        self._db.executemany(
            INSERT, ((row.kind, row.id, row.seq, dump_json(row.record)) for row in rows)
        )
        self._db.execute("COMMIT")

    def load_snapshots(self) -> list[tuple[str, str, bytes]]:
        """Return every snapshot as (name, summary, content)."""
        query = "SELECT name, about, content FROM snapshots ORDER BY rowid"
        return self._db.execute(query).fetchall()

    def save_snapshot(self, name: str, summary: str, content: bytes) -> None:
        """Save a snapshot, replacing one with the same name."""
        query = "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)"
        self._db.execute(query, (name, summary, content))

    def delete_snapshots(self) -> None:
        """Delete all snapshots."""
        self._db.execute("DELETE FROM snapshots")

    def close(self) -> None:
        """Close the file."""
        self._db.close()
