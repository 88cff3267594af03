"""Fast reset of the database after tests that commit."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction
from django.test import TransactionTestCase

_SCHEMA = "initial"
#: A trigger forbids DELETE.
_APPEND_ONLY = "tenants_activity"


@contextmanager
def restored_after_each_test() -> Iterator[None]:
    """Restore the present rows of all tables after each test with `transaction=True`.

    Django would truncate the tables, which creates new files for each, and at most
    deserialize the rows from JSON.
    """
    reset = _save_rows()

    def restore(test: TransactionTestCase) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(reset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_setup", classmethod(_do_nothing))
        patch.setattr(TransactionTestCase, "_fixture_teardown", restore)
        yield


def _do_nothing(test_class: type[TransactionTestCase]) -> None:
    """Leave the rows: they have been restored after the previous test."""


def _save_rows() -> str:
    """Copy the rows of all tables to another schema; return the SQL to restore them."""
    names = connection.introspection.django_table_names(
        only_existing=True, include_views=False
    )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {_SCHEMA}")
        for name in names:
            cursor.execute(f'CREATE TABLE {_SCHEMA}."{name}" AS TABLE "{name}"')
        tables = ", ".join(f'"{name}"' for name in names)
        return "; ".join(
            [
                # As for TRUNCATE: other connections end their transactions first.
                f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE",
                deletion_sql(names),
                *(_insert(name) for name in names),
            ]
        )


def deletion_sql(names: Iterable[str]) -> str:
    """Return SQL to delete all rows of tables, to be run in a transaction."""
    deleted = (f'DELETE FROM "{name}"' for name in names if name != _APPEND_ONLY)
    return "; ".join([f'TRUNCATE "{_APPEND_ONLY}"', *deleted])


def _insert(table: str) -> str:
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, table)
    listed = ", ".join(f'"{column.name}"' for column in columns)
    source = f'{_SCHEMA}."{table}"'
    return f'INSERT INTO "{table}" ({listed}) SELECT {listed} FROM {source}'
