"""SQLite files that keep a stand-in's state across restarts."""

import sqlite3
from pathlib import Path


class UnreadableState(Exception):
    """The file was not written by this version of the sandbox; the message names it."""


def open_database(path: Path | None, schema: str, format: int) -> sqlite3.Connection:
    """Open or create a database with a schema of this format; in memory without a path.

    All threads may use the connection, one at a time; transactions are explicit. Raises
    UnreadableState.
    """
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(
        path or ":memory:", check_same_thread=False, isolation_level=None
    )
    try:
        _prepare(db, schema, format)
    except (sqlite3.DatabaseError, UnreadableState) as error:
        db.close()
        raise UnreadableState(f"{path} cannot be read: {error}") from error
    return db


def _prepare(db: sqlite3.Connection, schema: str, format: int) -> None:
    # Checked before writing: the file may belong to another program.
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (found,) = db.execute("PRAGMA user_version").fetchone()
    if tables and found != format:
        raise UnreadableState("it was written by another version of the sandbox.")
    # WAL and OFF: survives a crash of the process, not of the machine.
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=OFF")
    db.execute("PRAGMA foreign_keys=ON")
    if not tables:
        db.executescript(f"BEGIN; {schema} PRAGMA user_version={format}; END")
