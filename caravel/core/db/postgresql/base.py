"""The database backend; Django looks for `DatabaseWrapper` here."""

import os
import select
from typing import Any, ClassVar, Self, cast

import psycopg
from django.db.backends.postgresql import base
from django.db.backends.utils import CursorWrapper


class DatabaseWrapper(base.DatabaseWrapper):
    """Connection that is asked whether it works only if the server has sent something.

    Between two statements a server is silent, unless it says goodbye or the connection
    ends (https://www.postgresql.org/docs/current/protocol-flow.html, "Asynchronous
    Operations" and "Termination"): the socket is readable then.
    """

    _connection_pools: ClassVar[dict[str, Any]] = {}

    def is_usable(self) -> bool:
        connection = cast("psycopg.Connection | None", self.connection)
        if connection is None or connection.closed:
            return False
        is_silent = not _is_readable(connection.fileno())
        return is_silent or bool(super().is_usable())

    def preparing_cursor(self) -> CursorWrapper:
        """Return a cursor whose statements the server parses once per connection.

        Their parameters are sent apart from their text. For statements that are run
        often, and of which few differ.
        """
        self.close_if_health_check_failed()
        self.ensure_connection()
        with self.wrap_database_errors:
            cursor = _PreparingCursor(self.connection)
            return cast("CursorWrapper", cast("Any", self)._prepare_cursor(cursor))


class _PreparingCursor(psycopg.Cursor[tuple[Any, ...]]):
    """Cursor that switches preparing on only while it is used.

    Else psycopg would count, and keep, the texts of all other statements, too.
    """

    def execute(self, *args: Any, **kwargs: Any) -> Self:
        threshold = self.connection.prepare_threshold
        self.connection.prepare_threshold = 0
        try:
            return super().execute(*args, **kwargs)
        finally:
            self.connection.prepare_threshold = threshold


#: Pools of the parent process, kept: to delete one would wait for its threads.
_inherited: list[dict[str, Any]] = []


def _reset_in_child() -> None:
    # Two processes with one connection would read each other's rows:
    # https://github.com/psycopg/psycopg/issues/395
    _inherited.append(DatabaseWrapper._connection_pools)
    DatabaseWrapper._connection_pools = {}


os.register_at_fork(after_in_child=_reset_in_child)


def _is_readable(fd: int) -> bool:
    # Not select(), which fails for descriptors from 1,024 on.
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
