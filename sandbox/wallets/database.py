"""What wallets have to track, in SQLite: in memory, or in a file for a restart."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE accounts (
    name TEXT PRIMARY KEY, balance_msat INTEGER NOT NULL CHECK (balance_msat >= 0)
);
CREATE TABLE invoices (
    payment_hash TEXT PRIMARY KEY, bolt11 TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL REFERENCES accounts,
    amount_msat INTEGER NOT NULL CHECK (amount_msat > 0),
    description TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
    preimage TEXT NOT NULL, settled_at INTEGER, payer TEXT REFERENCES accounts,
    CHECK ((settled_at IS NULL) = (payer IS NULL))
);
CREATE INDEX invoices_owner ON invoices (owner);
CREATE INDEX invoices_payer ON invoices (payer);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts,
    msat INTEGER NOT NULL, payment_hash TEXT REFERENCES invoices,
    client TEXT NOT NULL, at INTEGER NOT NULL
);
CREATE INDEX entries_account ON entries (account);
CREATE TABLE wallets (name TEXT PRIMARY KEY REFERENCES accounts, relays TEXT);
CREATE TABLE connections (
    wallet TEXT NOT NULL REFERENCES wallets, label TEXT NOT NULL, terms TEXT NOT NULL,
    PRIMARY KEY (wallet, label)
);
CREATE TABLE requests (id TEXT PRIMARY KEY) WITHOUT ROWID;
"""
#: Grows with each change of the schema.
FORMAT = 1


class UnreadableState(Exception):
    """The file is no state, or that of another version of the sandbox."""


class Database:
    """One connection for all threads, which take turns."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the file, or make it; in memory without one. Raises UnreadableState."""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(
            path or ":memory:", check_same_thread=False, isolation_level=None
        )
        try:
            self._prepare()
        except (sqlite3.DatabaseError, UnreadableState) as error:
            self._db.close()
            raise UnreadableState(f"{path} cannot be read: {error}") from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block as one transaction, undone when it raises."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._db.close()

    def _prepare(self) -> None:
        # Looked at before anything is written to a file that may not be ours.
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (format,) = self._db.execute("PRAGMA user_version").fetchone()
        if tables and format != FORMAT:
            raise UnreadableState("another version of the sandbox wrote it.")
        # WAL and OFF: safe against the death of the process, not of the machine.
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA foreign_keys=ON")
        if not tables:
            self._db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={FORMAT}; END")
