"""Database connections, and a guard against network calls inside transactions."""

from typing import Any, cast

from django.db import connection


class NetworkInTransaction(RuntimeError):
    """A network call was about to start inside a transaction."""


def release_connection() -> None:
    """Return the database connection to the pool, if there is one, before a call.

    Without a pool it is kept, unless DATABASE_CONN_MAX_AGE is 0: to connect again costs
    more than ten statements. Its next use finds out whether it still works. Raises
    NetworkInTransaction inside `atomic()`.
    """
    # The transaction that Django's TestCase wraps around each test does not count.
    if any(
        not getattr(block, "_from_testcase", False)
        for block in connection.atomic_blocks
    ):
        raise NetworkInTransaction("Commit before calling the network.")
    if connection.in_atomic_block:
        return
    if connection.settings_dict["CONN_MAX_AGE"] == 0:
        connection.close()
    else:
        cast(Any, connection).health_check_done = False
