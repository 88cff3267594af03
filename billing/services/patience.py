"""Waiting a moment for others, and going on without them if they take longer."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.conf import settings
from django.db import connection

from caravel.network import leave_database

T = TypeVar("T")
_POOL = ThreadPoolExecutor(settings.SLOW_REQUESTS, thread_name_prefix="patience")


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return what a piece of work returns, or raise what it raises.

    Raises TimeoutError when it takes longer than so many seconds; it goes on then, and
    what it finds may be at hand the next time. It has a database connection of its own:
    the caller's is given back meanwhile, so not inside a transaction.
    """
    leave_database()
    future = _POOL.submit(_apart, work)
    try:
        return future.result(timeout=seconds)
    finally:
        future.cancel()  # unless it has begun


def _apart(work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        connection.close()
