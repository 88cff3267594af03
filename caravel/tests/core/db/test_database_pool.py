"""Connection pool shared by threads, in separate processes."""

import pytest

from billing.tests.support.processes import run

pytestmark = [pytest.mark.django_db, pytest.mark.processes]

THREADS_SCRIPT = """
import threading
from django.db import connection
from caravel.core.db.transactions import release_connection
from caravel.tests.support.waiting import join

def execute(query):
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]

def work():
    for _ in range(5):
        backends.add(execute("SELECT pg_backend_pid() FROM pg_sleep(0.01)"))
        release_connection()

def work_at_once():
    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads: thread.start()
    join(*threads)

backends = set()
work_at_once()
"""
TERMINATE_SCRIPT = """
first = set(backends)
execute(f"SELECT count(pg_terminate_backend(pid)) FROM unnest(ARRAY{sorted(first)}) pid"
    " WHERE pid <> pg_backend_pid()")
release_connection()
work_at_once()
"""


TIMEOUT_SCRIPT = """
from billing.services.payment_page.timeouts import run_with_timeout
from tenants.models import Tenant

count = Tenant.objects.count()
print(run_with_timeout(60, lambda: Tenant.objects.count() - count))
"""
# As gunicorn does with --preload, after the checks at the start have used the pool.
FORK_SCRIPT = """
import multiprocessing
import caravel.wsgi
from django.db import connection
from caravel.tests.support.waiting import LIMIT

def use(barrier, backends):
    barrier.wait(LIMIT)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backends.put(cursor.fetchone()[0])
    barrier.wait(LIMIT)

context = multiprocessing.get_context("fork")
barrier, backends = context.Barrier(2), context.SimpleQueue()
children = [context.Process(target=use, args=(barrier, backends)) for _ in range(2)]
for child in children: child.start()
for child in children: child.join(LIMIT)
print(len({backends.get() for _ in children}))
"""


@pytest.fixture(scope="module")
def numbers(django_db_setup, django_db_blocker):
    """Function that returns the numbers that a script printed; all run at once."""
    count, new = "print(len(backends))\n", "print(len(backends - first))\n"
    with django_db_blocker.unblock():
        processes = {
            "pool": run(
                f"{THREADS_SCRIPT}{count}{TERMINATE_SCRIPT}{new}", DATABASE_POOL="3"
            ),
            "no pool": run(f"{THREADS_SCRIPT}{count}", DATABASE_CONN_MAX_AGE="0"),
            "fork": run(FORK_SCRIPT, DATABASE_POOL="3"),
            "timeout": run(TIMEOUT_SCRIPT, DATABASE_POOL="1"),
        }
    printed = {
        name: process.communicate(timeout=60)[0] for name, process in processes.items()
    }

    def read(name):
        assert processes[name].returncode == 0, printed[name]
        return [int(line) for line in printed[name].splitlines()]

    return read


def test_threads_share_connections_of_pool(numbers):
    assert numbers("pool")[0] <= 3


def test_terminated_connections_are_replaced(numbers):
    assert numbers("pool")[1] >= 1


def test_each_use_opens_connection_if_none_is_kept(numbers):
    (connections,) = numbers("no pool")

    assert connections > 3


def test_thread_that_waits_for_another_releases_its_connection(numbers):
    assert numbers("timeout") == [0]


def test_processes_that_are_forked_share_no_connections(numbers):
    assert numbers("fork") == [2]
