"""Indexes that are added while the application writes."""

import threading

import pytest
from django.db import connection, connections, models
from django.db.migrations.state import ProjectState

from caravel.core.db.migrations import AddIndexOnline
from caravel.tests.support.waiting import join, wait_until
from tenants.models import Activity

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "activities_in_a_test"
WRITE = "UPDATE tenants_activity SET subject_id = '' WHERE false"


@pytest.fixture(autouse=True)
def _no_index():
    yield
    execute(f"DROP INDEX IF EXISTS {NAME}")


@pytest.fixture
def other():
    """A second connection, as of a worker that goes on."""
    other = connections.create_connection("default")
    yield other
    other.close()


def add_index():
    state = ProjectState.from_apps(Activity._meta.apps)
    index = models.Index(fields=["subject_id"], name=NAME)
    with connection.schema_editor(atomic=False) as editor:
        AddIndexOnline("activity", index).database_forwards(
            "tenants", editor, state, state
        )


def add_index_in_thread():
    def run():
        add_index()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def execute(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


def query(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def is_valid():
    rows = query(
        f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{NAME}')"
    )
    return rows == [(True,)]


def is_waiting():
    return query(
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        f"AND query LIKE 'CREATE INDEX%{NAME}%'"
    )


def test_a_worker_writes_while_an_index_waits_for_another_transaction(other):
    other.set_autocommit(False)
    with other.cursor() as cursor:
        cursor.execute(WRITE)
        thread = add_index_in_thread()
        wait_until(is_waiting, event="the index waits for the transaction")

        execute("SET lock_timeout = '1s'")
        execute(WRITE)

        execute("RESET lock_timeout")
        other.commit()
    join(thread)
    assert is_valid()


def test_an_index_that_was_interrupted_is_built_when_the_migration_is_repeated():
    execute(f"CREATE INDEX {NAME} ON tenants_activity (type)")
    execute(
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{NAME}'::regclass"
    )

    add_index()

    assert is_valid()


def test_the_limit_on_waiting_for_locks_returns_after_an_index_was_added():
    add_index()

    assert query("SHOW lock_timeout") == [("15s",)]
