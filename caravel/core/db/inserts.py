"""Insertion of a row by one statement, without a transaction around it."""

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from django.db import InterfaceError, OperationalError, connection, models
from psycopg import sql

from caravel.core.db.postgresql.base import DatabaseWrapper


def insert_if_new(model: type[models.Model], values: Mapping[str, object]) -> bool:
    """Insert a row unless there is one with its key; return whether there was none.

    Columns without a value get the default of their field. If the connection dies, it
    is replaced and the statement repeated. Django's own methods insert within a
    transaction, three round trips instead of one, and have each statement parsed.
    """
    statement, defaults = _statement(model, tuple(values))
    parameters = [*values.values(), *(default() for default in defaults)]
    was_connected = connection.connection is not None
    try:
        return _execute(statement, parameters)
    except (OperationalError, InterfaceError):
        connection.close_if_unusable_or_obsolete()
        if connection.connection is not None or not was_connected:
            raise
        # The first try may have succeeded; a second changes nothing then.
        return _execute(statement, parameters)


def _execute(statement: str, parameters: list[Any]) -> bool:
    with cast("DatabaseWrapper", connection).preparing_cursor() as cursor:
        cursor.execute(statement, parameters)
        return bool(cursor.rowcount)


@cache
def _statement(model: type[models.Model], names: tuple[str, ...]) -> tuple[str, Any]:
    """Return the statement, and the functions that its last parameters come from.

    Other defaults are in its text, since each parameter costs time.
    """
    fields = {field.attname: field for field in model._meta.concrete_fields}
    given = [fields.pop(name) for name in names]
    computed = [
        field
        for field in fields.values()
        if field.has_default() and callable(field.default)
    ]
    constant = [field for field in fields.values() if field not in computed]
    columns: list[sql.Composable] = [
        sql.Identifier(str(field.column)) for field in (*given, *computed, *constant)
    ]
    values: list[sql.Composable] = [
        *[sql.Placeholder()] * len((*given, *computed)),
        *(sql.Literal(field.get_prep_value(field.get_default())) for field in constant),
    ]
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING")
    text = statement.format(
        sql.Identifier(model._meta.db_table),
        sql.SQL(", ").join(columns),
        sql.SQL(", ").join(values),
    ).as_string()
    return text, [field.default for field in computed]
