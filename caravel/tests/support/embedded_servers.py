"""Queries to embedded servers, also for scripts that tests run in other processes."""

from pathlib import Path

import psycopg
import redis

from caravel import embedded
from caravel.embedded.layout import Layout
from caravel.embedded.processes import read_pid


def query(servers: embedded.Servers, statement: str) -> str:
    """Return the first column of the statement's first row as text."""
    with psycopg.connect(servers.database_url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row
    return str(row[0])


def valkey_client(servers: embedded.Servers) -> redis.Redis:
    return redis.Redis.from_url(servers.redis_url, decode_responses=True)


def both_answer(servers: embedded.Servers) -> bool:
    with valkey_client(servers) as valkey:
        return query(servers, "SELECT 1") == "1" and bool(valkey.ping())


def pids(var: Path) -> tuple[int, int]:
    """Return the process ids of PostgreSQL and Valkey."""
    layout = Layout.of(var)
    postmaster = read_pid(layout.postgres_data / "postmaster.pid")
    valkey = read_pid(layout.valkey_data / "valkey.pid")
    assert postmaster and valkey
    return postmaster, valkey
