"""Queries whose SQL is built once per process.

Django needs milliseconds to build that of a query with subqueries, each time, and
PostgreSQL a fraction of one to answer it.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from django.db import connection, models

#: Arguments with which the SQL is built; no constant of a query is like them.
_ID = "the id that a caller of this query gives"
_NOW = datetime(5000, 1, 1, tzinfo=UTC)
#: Distance within which a parameter is a time relative to now.
_MAX_DISTANCE = timedelta(days=10_000)


class PreparedQuery:
    """Query for one id and the present time.

    `build` returns a queryset of values; it must not depend on settings, or on anything
    else that changes. Raises ValueError if the queryset has a time of its own: it would
    be the one at which the process ran the query first.
    """

    def __init__(
        self, build: Callable[[str, datetime], models.QuerySet[Any, Any]]
    ) -> None:
        self._build = build

    def fetch(self, id: str, now: datetime) -> list[tuple[Any, ...]]:
        """Run the query; return its rows."""
        sql, params = self._prepared
        with connection.cursor() as cursor:
            cursor.execute(sql, [_argument(each, id, now) for each in params])
            return list(cursor.fetchall())

    @cached_property
    def _prepared(self) -> tuple[str, list[Any]]:
        sql, params = self._build(_ID, _NOW).query.sql_with_params()
        times = [each for each in params if isinstance(each, datetime)]
        if not all(abs(time - _NOW) < _MAX_DISTANCE for time in times):
            raise ValueError("This query does not get each of its times from `now`.")
        return sql, list(params)


def _argument(param: Any, id: str, now: datetime) -> Any:
    if param == _ID:
        return id
    return now + (param - _NOW) if isinstance(param, datetime) else param
