"""The SQLite file behind a store: state survives a restart or a SIGKILL."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sandbox.stripe.protocol.http import dump_json
from sandbox.stripe.store import Change, Record

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID
"""


class SqliteJournal:
    """One row per record, one transaction per write.

    `synchronous=OFF` hands pages to the operating system without waiting for the
    disk: enough against the death of the process, not against a power cut.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(SCHEMA)

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
                    "INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?)",
                    (change.kind, change.id, change.seq, dump_json(change.record)),
                )
        self._db.execute("COMMIT")

    def clear(self) -> None:
        """Forget every record."""
        self._db.execute("DELETE FROM records")

    def close(self) -> None:
        """Release the file."""
        self._db.close()
