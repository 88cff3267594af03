"""The border between the database and the network."""

from django.db import connection


class NetworkInTransaction(RuntimeError):
    """A network call was about to start while a transaction holds its locks."""


def release_connection() -> None:
    """Give the database connection back before a wait on the network.

    Raises NetworkInTransaction inside `atomic()`. Test cases that wrap each test in
    a transaction of their own are not meant.
    """
    if any(
        not getattr(block, "_from_testcase", False)
        for block in connection.atomic_blocks
    ):
        raise NetworkInTransaction("Commit before calling the network.")
    if not connection.in_atomic_block:
        connection.close()
