"""Insertion of a row by one statement, without a transaction around it."""

from functools import cache

from django.db import InterfaceError, OperationalError, connection, models
from psycopg import sql


def insert_if_new(row: models.Model) -> bool:
    """Insert a row unless there is one with its key; return whether there was none.

    A connection that has died since its last use is replaced. Django would find out
    with a query before each request (CONN_HEALTH_CHECKS), and its own methods insert
    within a transaction: four round trips instead of one.
    """
    connection.health_check_done = True
    try:
        return _insert(row)
    except (OperationalError, InterfaceError):
        connection.close_if_unusable_or_obsolete()
        if connection.connection is not None:
            raise
        # The first try may have succeeded; a second changes nothing then.
        return _insert(row)


def _insert(row: models.Model) -> bool:
    fields = row._meta.concrete_fields
    values = [
        field.get_db_prep_save(field.pre_save(row, True), connection)
        for field in fields
    ]
    with connection.cursor() as cursor:
        cursor.execute(_statement(type(row)), values)
        return bool(cursor.rowcount)


@cache
def _statement(model: type[models.Model]) -> str:
    columns = [field.column for field in model._meta.concrete_fields]
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING")
    return statement.format(
        sql.Identifier(model._meta.db_table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
    ).as_string()
