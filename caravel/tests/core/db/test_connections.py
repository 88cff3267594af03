"""Database connections that are kept between tasks and over calls to the network."""

import os
import socket
from typing import cast

import pytest
from celery.signals import task_postrun, task_prerun
from django.db import DataError, OperationalError, connection, connections, transaction
from django.db.backends.utils import CursorWrapper

from caravel.celery import app
from caravel.core.db.postgresql.base import DatabaseWrapper
from caravel.core.db.transactions import NetworkInTransaction, release_connection
from caravel.tests.support.celery_tasks import worker_fixup

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _connection_is_new(monkeypatch):
    """Start with a connection that does not reach its maximum age meanwhile."""
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 3600)


@pytest.fixture
def fixup():
    with worker_fixup() as fixup:
        yield fixup


@pytest.fixture
def task(fixup):
    """Function that runs a task as a worker does, with a function as its work."""

    def run(work):
        sender = app.tasks["billing.tasks.sweep_credits"]
        task_prerun.send(sender=sender, task_id="1", task=sender)
        result = work()
        task_postrun.send(sender=sender, task_id="1", task=sender)
        return result

    return run


@pytest.fixture
def keeps_nothing(monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    connection.close()
    yield
    connection.close()


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def terminate(pid: int) -> None:
    """End a connection at the server, as its restart does."""
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    finally:
        other.close()


def preparing_cursor() -> CursorWrapper:
    return cast("DatabaseWrapper", connection).preparing_cursor()


def prepared() -> list[str]:
    """Return the statements that the server has parsed for this connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        return [statement for (statement,) in cursor.fetchall()]


def test_connection_is_kept_over_calls_and_tasks(task):
    first = backend()

    def call_twice():
        release_connection()
        between = backend()
        release_connection()
        return {between, backend()}

    assert task(call_twice) | task(call_twice) == {first}


def test_connection_is_closed_before_call_if_none_is_kept(keeps_nothing):
    backend()

    release_connection()

    assert connection.connection is None


def test_connection_is_closed_after_task_if_none_is_kept(task, keeps_nothing):
    task(backend)

    assert connection.connection is None


def test_network_call_in_transaction_is_refused():
    with transaction.atomic(), pytest.raises(NetworkInTransaction):
        release_connection()


def test_connection_that_ended_during_call_is_replaced():
    first = backend()
    release_connection()
    terminate(first)

    assert backend() != first


def test_connection_that_ended_between_tasks_is_replaced(task):
    first = task(backend)
    terminate(first)

    assert task(backend) != first


def test_connection_that_ended_during_task_fails_it_and_not_the_next(task):
    def lose_connection():
        terminate(backend())
        with pytest.raises(OperationalError):
            backend()

    task(lose_connection)

    assert task(backend)


def test_silent_connection_is_usable_without_a_statement(monkeypatch):
    backend()

    def fail(*args: object) -> None:
        raise AssertionError("a statement was sent")

    monkeypatch.setattr(type(connection.connection), "cursor", fail)

    assert connection.is_usable()


def test_connection_whose_socket_was_shut_down_is_not_usable():
    backend()
    duplicate = socket.socket(fileno=os.dup(connection.connection.fileno()))
    with duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)

    assert not connection.is_usable()
    connection.close()


def test_closed_connection_is_not_usable():
    backend()
    connection.connection.close()

    assert not connection.is_usable()
    connection.close()


def test_preparing_cursor_has_a_statement_parsed_once_per_connection():
    for number in (1, 2):
        with preparing_cursor() as cursor:
            cursor.execute("SELECT %s::int", [number])
            assert cursor.fetchall() == [(number,)]
    first = prepared()
    connection.close()

    assert (first, prepared()) == (["SELECT $1::int"], [])


def test_preparing_cursor_leaves_the_statements_of_others_alone():
    with preparing_cursor() as cursor:
        cursor.execute("SELECT 1")
    for _ in range(10):
        backend()

    assert prepared() == ["SELECT 1"]
    assert connection.connection.prepare_threshold is None


def test_failure_of_a_prepared_statement_is_one_of_django_and_leaves_it_usable():
    def divide(number):
        with preparing_cursor() as cursor:
            cursor.execute("SELECT 6 / %s::int", [number])
            return cursor.fetchone()[0]

    for _ in range(2):
        with pytest.raises(DataError):
            divide(0)

        assert divide(3) == 2


def test_prepared_statement_is_usable_after_the_rollback_of_its_transaction():
    def one():
        with preparing_cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchone()[0]

    with transaction.atomic():
        one()
        transaction.set_rollback(True)

    assert one() == 1


def test_preparing_cursor_replaces_a_connection_that_ended():
    first = backend()
    release_connection()
    terminate(first)

    with preparing_cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        assert cursor.fetchone()[0] != first


def test_threads_of_worker_without_pool_keep_no_connections(fixup, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 60)
    monkeypatch.setattr(fixup, "_is_prefork", lambda: False)
    monkeypatch.setattr("celery.signals.Signal.connect", lambda *args, **kwargs: None)

    fixup.install()

    assert connection.settings_dict["CONN_MAX_AGE"] == 0
