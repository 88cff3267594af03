"""States that the real code builds once, and that are restored for many tests.

A state is the sandbox Stripe's account with the rows that led to it. Objects keep
their ids and times: a restored tenant subscribed when the state was built. An old state
is built again, so that a test finds it young however long its module takes.
"""

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from django.apps import apps
from django.db import connection, transaction
from django.test import override_settings

from sandbox.stripe.client.testing import Sandbox

Value = TypeVar("Value")
Next = TypeVar("Next")
APPS = ("tenants", "relays", "lightning", "billing")
#: Seconds; after twice that time Stripe finalizes a draft.
MAX_AGE = 1800
#: Rows of a table as JSON.
Rows = dict[str, list[str]]


class SavedState(Generic[Value]):
    """A state that was built on an empty account, or on another state."""

    def __init__(
        self,
        sandbox: Sandbox,
        build: Callable[[], Value],
        base: "SavedState[Any] | None" = None,
    ) -> None:
        self._sandbox = sandbox
        self._build = build
        self._base = base
        # Weak: those of earlier modules are not used again.
        self._made_of_this: WeakSet[SavedState[Any]] = WeakSet()
        if base is not None:
            base._made_of_this.add(self)
        self._save()

    def then(self, build: Callable[[], Next]) -> "SavedState[Next]":
        """Return the state that another build makes of this one."""
        return SavedState(self._sandbox, build, self)

    @property
    def age(self) -> float:
        """Seconds since the state was built."""
        return time.time() - self._built_at

    def restore(self) -> Value:
        """Restore the account and add the rows; return the result of the build."""
        # The state on which the others are built is restored first in a test, when no
        # rows exist yet with which the new ones could collide.
        if self._base is None and not 0 <= self.age < MAX_AGE:
            self._build_again()
        assert self._sandbox.app.store.written == self._start, "another account"
        self._restore_account()
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(self._sql, self._params)
        return self.value

    def _build_again(self) -> None:
        """Build this state, and those made of it, at the present time."""
        self._save()
        for state in self._made_of_this:
            state._build_again()
        self._sandbox.reset()

    def _save(self) -> None:
        """Build in a transaction that is rolled back, as in a test."""
        used = override_settings(
            STRIPE_API_BASE=self._sandbox.url, STRIPE_MAX_REQUESTS_PER_SECOND=100_000
        )
        with used, _test_transaction():
            self._sandbox.reset()
            self._restore_bases()
            before = _read_rows()
            self._start = self._sandbox.app.store.written
            self.value = self._build()
            self._built_at = time.time()
            self._restore_account = self._sandbox.save()
            self._sql, self._params = _statement(before, _read_rows())
            transaction.set_rollback(True)

    def _restore_bases(self) -> None:
        if self._base is not None:
            self._base._restore_bases()
            self._base.restore()


def _test_transaction() -> transaction.Atomic:
    """Return a transaction that, as TestCase's, allows calls to the network."""
    atomic = transaction.atomic()
    vars(atomic).update(_from_testcase=True)
    return atomic


def _columns() -> dict[str, list[str]]:
    """Return the columns of each table that can be set, the primary key first."""
    return {
        model._meta.db_table: [
            str(field.column)
            for field in sorted(
                model._meta.local_concrete_fields,
                key=lambda field: not field.primary_key,
            )
            if not field.generated
        ]
        for label in APPS
        for model in apps.get_app_config(label).get_models(include_auto_created=True)
    }


def _read_rows() -> Rows:
    rows = {}
    with connection.cursor() as cursor:
        for table in _columns():
            cursor.execute(f'SELECT row_to_json(t)::text FROM "{table}" t')
            rows[table] = [row for (row,) in cursor.fetchall()]
    return rows


def _statement(before: Rows, after: Rows) -> tuple[str, list[str]]:
    """Return SQL with its parameters that adds or changes the rows that differ."""
    assert all(len(after[table]) >= len(before[table]) for table in after), "deleted"
    changed = {
        table: [row for row in rows if row not in before[table]]
        for table, rows in after.items()
    }
    changed = {table: rows for table, rows in changed.items() if rows}
    sql = "; ".join(_upsert(table, _columns()[table]) for table in changed)
    return sql, ["[" + ",".join(rows) + "]" for rows in changed.values()]


def _upsert(table: str, columns: list[str]) -> str:
    names = [f'"{column}"' for column in columns]
    listed = ", ".join(names)
    return (
        f'INSERT INTO "{table}" ({listed}) '
        f'SELECT {listed} FROM json_populate_recordset(NULL::"{table}", %s) '
        f"ON CONFLICT ({names[0]}) DO UPDATE SET "
        + ", ".join(f"{name} = EXCLUDED.{name}" for name in names)
    )
