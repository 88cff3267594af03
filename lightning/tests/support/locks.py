"""Locks of the database, as another transaction sees them."""

from django.db import connection


def has_waiting_lock() -> bool:
    """Return whether a statement of any connection waits for a lock."""
    with connection.cursor() as cursor:
        # Within a transaction the view shows its first snapshot until it is cleared.
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
        return cursor.fetchone() is not None
