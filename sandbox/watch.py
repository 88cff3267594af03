"""Ends when PostgreSQL or Valkey does: the whole system then stops and says why."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import redis

PERIOD = 1.0


def main() -> None:
    """Ask both servers every second until one does not answer."""
    while True:
        for name, ask in (("PostgreSQL", _ask_postgres), ("Valkey", _ask_valkey)):
            if fault := _fault(ask):
                logs = Path(os.environ["CARAVEL_VAR"]) / "log"
                sys.exit(f"{name} does not answer any more ({fault}). Its log: {logs}")
        time.sleep(PERIOD)


def _fault(ask: Callable[[], object]) -> str:
    try:
        ask()
    except (psycopg.OperationalError, redis.RedisError) as exc:
        return str(exc).strip().splitlines()[0]
    return ""


def _ask_postgres() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=5) as connection:
        connection.execute("SELECT 1")


def _ask_valkey() -> None:
    with redis.from_url(os.environ["REDIS_URL"], socket_timeout=5) as client:
        client.ping()


if __name__ == "__main__":
    main()
