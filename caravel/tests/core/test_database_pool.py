"""Connection pool shared by threads, in a separate process."""

import pytest

from billing.tests.support.processes import run

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.processes,
]

THREADS_SCRIPT = """
import threading
from django.db import connection
from caravel.core.db.transactions import release_connection

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
    for thread in threads: thread.join()

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


def output(code, **env):
    process = run(code, **env)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    return int(printed.split()[-1])


def test_threads_share_connections_of_pool():
    assert output(f"{THREADS_SCRIPT}print(len(backends))", DATABASE_POOL="3") <= 3


def test_each_use_opens_connection_without_pool():
    assert output(f"{THREADS_SCRIPT}print(len(backends))") > 3


def test_terminated_connections_are_replaced():
    new = output(
        f"{THREADS_SCRIPT}{TERMINATE_SCRIPT}print(len(backends - first))",
        DATABASE_POOL="3",
    )

    assert new >= 1


def test_thread_that_waits_for_another_releases_its_connection():
    assert output(TIMEOUT_SCRIPT, DATABASE_POOL="1") == 0
