"""Size of the stores. Needs django.setup()."""

from dataclasses import dataclass

import redis
from django.conf import settings
from django.db import connection

_TABLES = """
    SELECT relname, pg_total_relation_size(relid), n_live_tup
    FROM pg_stat_user_tables
"""


@dataclass(frozen=True)
class Stores:
    """Bytes of each table with its indexes, rows of each, and bytes in Valkey."""

    tables: dict[str, int]
    rows: dict[str, int]
    valkey: int

    def growth(self, before: "Stores") -> dict[str, int]:
        """Return the bytes by which each table with new rows has grown."""
        return {
            name: size - before.tables[name]
            for name, size in self.tables.items()
            if self.rows[name] > before.rows[name]
        }


def measure() -> Stores:
    """Return the sizes, after a vacuum as PostgreSQL makes it by itself."""
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
        cursor.execute(_TABLES)
        rows = cursor.fetchall()
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        valkey = int(broker.info("memory")["used_memory"])
    return Stores(
        tables={name: size for name, size, _ in rows},
        rows={name: count for name, _, count in rows},
        valkey=valkey,
    )
