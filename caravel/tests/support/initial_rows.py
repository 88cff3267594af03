"""Fast reset of the database after tests that commit."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.test import TransactionTestCase

_SCHEMA = "initial"
#: Triggers forbid DELETE.
_APPEND_ONLY = ("lightning_resolution", "tenants_activity")


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
        filled = [name for name in names if _save(cursor, name)]
        assert not {*_APPEND_ONLY} & {*filled}
        tables = ", ".join(f'"{name}"' for name in names)
        emptied = [name for name in names if name not in (*filled, *_APPEND_ONLY)]
        return "; ".join(
            [
                # As for TRUNCATE: other connections end their transactions first.
                f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE",
                *(_truncate_if_used(name) for name in _APPEND_ONLY),
                *(f'DELETE FROM "{name}"' for name in emptied),
                *(_delete_changed(name) for name in filled),
                *(_insert_missing(name) for name in filled),
            ]
        )


def deletion_sql(names: Iterable[str]) -> str:
    """Return SQL to delete all rows of tables, to be run in a transaction."""
    deleted = (f'DELETE FROM "{name}"' for name in names if name not in _APPEND_ONLY)
    return "; ".join([f"TRUNCATE {', '.join(_APPEND_ONLY)}", *deleted])


def _save(cursor: CursorWrapper, table: str) -> bool:
    """Copy the rows of a table; return whether there are any."""
    cursor.execute(f'CREATE TABLE {_SCHEMA}."{table}" AS TABLE "{table}"')
    return bool(cursor.rowcount)


def _truncate_if_used(table: str) -> str:
    """Return a statement: TRUNCATE costs as much as emptying all other tables."""
    return (
        f'DO $$ BEGIN IF EXISTS (SELECT FROM "{table}") '
        f'THEN TRUNCATE "{table}"; END IF; END $$'
    )


# Rows that stay need no checks of foreign keys, which take longer than all the rest.
def _delete_changed(table: str) -> str:
    return (
        f'DELETE FROM "{table}" present WHERE NOT EXISTS '
        f'(SELECT FROM {_SCHEMA}."{table}" saved WHERE saved.* = present.*)'
    )


def _insert_missing(table: str) -> str:
    with connection.cursor() as cursor:
        columns = connection.introspection.get_table_description(cursor, table)
    listed = ", ".join(f'"{column.name}"' for column in columns)
    return (
        f'INSERT INTO "{table}" ({listed}) SELECT {listed} FROM {_SCHEMA}."{table}" '
        f'EXCEPT SELECT {listed} FROM "{table}"'
    )
