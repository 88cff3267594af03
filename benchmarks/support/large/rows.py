"""Rows of a model by one INSERT … SELECT: numbered, each column an SQL expression."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, models
from psycopg import sql

#: SQL functions of a row's number `i`. `pick` is true for one row in `k`: other rows
#: for each `salt`, and the same ones in each run.
_FUNCTIONS = """
CREATE OR REPLACE FUNCTION pg_temp.pubkey(n bigint) RETURNS text IMMUTABLE
    LANGUAGE sql RETURN encode(sha256(n::text::bytea), 'hex');
CREATE OR REPLACE FUNCTION pg_temp.dice(i bigint, salt int, sides bigint) RETURNS bigint
    IMMUTABLE LANGUAGE sql
    RETURN ((hashint8extended(i, salt) % sides) + sides) % sides;
CREATE OR REPLACE FUNCTION pg_temp.pick(i bigint, salt int, k bigint) RETURNS boolean
    IMMUTABLE LANGUAGE sql RETURN hashint8extended(i, salt) % k = 0;
CREATE OR REPLACE FUNCTION pg_temp.uuid(n bigint) RETURNS uuid IMMUTABLE
    LANGUAGE sql RETURN md5(n::text)::uuid;
CREATE OR REPLACE FUNCTION pg_temp.ago(part double precision, span interval)
    RETURNS timestamptz STABLE LANGUAGE sql RETURN now() - part * span;
"""


@contextmanager
def loading() -> Iterator[None]:
    """Load without triggers and foreign key checks, then collect statistics."""
    with connection.cursor() as cursor:
        cursor.execute(_FUNCTIONS)
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("SET synchronous_commit = off")
        yield
        cursor.execute("RESET session_replication_role")
        # As autovacuum does: index-only scans need the visibility map.
        cursor.execute("VACUUM (ANALYZE)")


def insert(model: type[models.Model], number: int, /, **columns: str) -> None:
    """Insert rows numbered 1 to `number`; other columns get their field's default."""
    names, values = [], []
    for field in model._meta.concrete_fields:
        if field.generated or field.get_internal_type() == "BigAutoField":
            continue
        expression = columns.pop(field.name, None)
        names.append(sql.Identifier(str(field.column)))
        values.append(sql.SQL(expression) if expression else _default(field))
    if columns:
        raise TypeError(f"{model.__name__} has no {', '.join(columns)}.")
    statement = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM generate_series(1, {}) i")
    comma = sql.SQL(", ")
    with connection.cursor() as cursor:
        cursor.execute(
            statement.format(
                sql.Identifier(model._meta.db_table),
                comma.join(names),
                comma.join(values),
                sql.Literal(number),
            )
        )


def literal(value: str) -> str:
    """Return a text as an SQL expression."""
    return sql.Literal(value).as_string(connection.connection)


def _default(field: models.Field[Any, Any]) -> sql.Composable:
    value = field.get_default()
    if value is None and field.null:
        return sql.SQL("NULL")
    return sql.Literal(field.get_db_prep_save(value, connection))
