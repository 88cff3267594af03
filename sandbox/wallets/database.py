"""Storage of the wallets in SQLite: in memory, or in a file that outlasts a restart."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandbox.common.state import open_database

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
CREATE TABLE wallets (name TEXT PRIMARY KEY REFERENCES accounts);
CREATE TABLE connections (
    wallet TEXT NOT NULL REFERENCES wallets, label TEXT NOT NULL, terms TEXT NOT NULL,
    PRIMARY KEY (wallet, label)
);
CREATE TABLE requests (id TEXT PRIMARY KEY) WITHOUT ROWID;
"""
#: Version of the schema; raised with each change.
FORMAT = 1


class Database:
    """One connection, shared by all threads under a lock."""

    def __init__(self, path: Path | None = None) -> None:
        """Open or create the file; without one use memory. Raises UnreadableState."""
        self._lock = threading.Lock()
        self._db = open_database(path, SCHEMA, FORMAT)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block as a transaction; roll back if it raises."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()
