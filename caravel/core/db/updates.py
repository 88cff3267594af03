"""Updates that return columns of the rows that they have changed, in one statement."""

from typing import Any, cast

from django.db import connections, models
from django.db.models.sql import UpdateQuery


def update_returning(
    rows: models.QuerySet[Any], column: str, **values: Any
) -> list[Any]:
    """Update rows of one table; return the new values of a column, in any order."""
    connection = connections[rows.db]
    query = cast(Any, rows.query.chain(UpdateQuery))
    query.add_update_values(values)
    sql, params = query.get_compiler(connection=connection).as_sql()
    name = connection.ops.quote_name(rows.model._meta.get_field(column).column)
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} RETURNING {name}", params)
        return [value for (value,) in cursor.fetchall()]
