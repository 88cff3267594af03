"""The database of a large installation: how it is filled, and all that is run on it."""

from itertools import chain

from django.contrib import admin
from django.db import connection

from benchmarks.support.large import pages, recorder, tasks
from benchmarks.support.large.accounts import insert_accounts
from benchmarks.support.large.money import insert_money
from benchmarks.support.large.places import Place
from benchmarks.support.large.plans import Limits
from benchmarks.support.large.rows import loading
from caravel.core import admin_lists

#: Rows from which on a table has to be read by an index; a twentieth when quick.
_LARGE = 20_000
#: Rows that a statement may read of such a table.
_MOST = 12_500
_SIZES = """
SELECT relname, reltuples::bigint FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY reltuples DESC
"""


def fill(tenants: int) -> None:
    """Fill an empty database."""
    with loading():
        insert_accounts(tenants)
        insert_money(tenants)


def run_all(*, quick: bool) -> list[Place]:
    """Run each task and request each list."""
    if quick:
        admin_lists.COUNTED //= 20
        for page in admin.site._registry.values():
            page.list_per_page = 20
    with recorder.installed(prefer_indexes=quick):
        return list(chain(pages.run_pages(), tasks.run_tasks()))


def limits(*, quick: bool) -> Limits:
    """Return how much a statement may read."""
    large, most = (_LARGE // 20, _MOST // 5) if quick else (_LARGE, _MOST)
    growing = (name for name, rows in _sizes() if rows >= large)
    return Limits(frozenset(growing), most)


def sizes_text() -> str:
    """Return the numbers of rows, in words."""
    return ", ".join(f"{rows:,} {name}" for name, rows in _sizes() if rows >= _LARGE)


def _sizes() -> list[tuple[str, int]]:
    with connection.cursor() as cursor:
        cursor.execute(_SIZES)
        return cursor.fetchall()
