"""Watchdog of PostgreSQL and Valkey.

It exits when one of them fails, so that the supervisor stops the whole system.
"""

import os
import sys
import time
from pathlib import Path

import psycopg
import redis

CHECK_INTERVAL = 1.0


def main() -> None:
    """Check both servers every second; exit when one does not respond."""
    while True:
        for name, check in (("PostgreSQL", _check_postgres), ("Valkey", _check_valkey)):
            try:
                check()
            except (psycopg.OperationalError, redis.RedisError) as exc:
                error = str(exc).strip().splitlines()[0]
                logs = Path(os.environ["CARAVEL_VAR"]) / "log"
                sys.exit(f"{name} no longer responds ({error}). Its log: {logs}")
        time.sleep(CHECK_INTERVAL)


def _check_postgres() -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=5) as connection:
        connection.execute("SELECT 1")


def _check_valkey() -> None:
    with redis.from_url(os.environ["REDIS_URL"], socket_timeout=5) as client:
        client.ping()


if __name__ == "__main__":
    main()
