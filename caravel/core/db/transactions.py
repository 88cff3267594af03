"""Guard against network calls inside database transactions."""

from django.db import connection


class NetworkInTransaction(RuntimeError):
    """A network call was about to start inside a transaction."""


def release_connection() -> None:
    """Close the database connection, or return it to the pool, before a network call.

    Raises NetworkInTransaction inside `atomic()`.
    """
    # The transaction that Django's TestCase wraps around each test does not count.
    if any(
        not getattr(block, "_from_testcase", False)
        for block in connection.atomic_blocks
    ):
        raise NetworkInTransaction("Commit before calling the network.")
    if not connection.in_atomic_block:
        connection.close()
