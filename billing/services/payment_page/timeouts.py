"""Waiting a moment for others, and going on without them if they take longer."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import TypeVar

from django.conf import settings
from django.db import connection

from caravel.core.db.transactions import release_connection

T = TypeVar("T")
_POOL = ThreadPoolExecutor(settings.SLOW_REQUESTS, thread_name_prefix="patience")
_FREE = BoundedSemaphore(settings.SLOW_REQUESTS)
#: Seconds that a thread is waited for: if all are held up, one more would be, too.
_TURN = 1.0


def run_with_timeout(seconds: float, work: Callable[[], T]) -> T:
    """Return what a piece of work returns, or raise what it raises.

    Raises TimeoutError when it takes longer than so many seconds; it goes on then, and
    what it finds may be at hand the next time. Also, and soon, when it cannot begin for
    others that take so long. It has a database connection of its own: the caller's is
    given back meanwhile, so not inside a transaction.
    """
    release_connection()
    begun = time.monotonic()
    if not _FREE.acquire(timeout=min(_TURN, seconds)):
        raise TimeoutError("too many are waited for")
    future = _POOL.submit(_apart, work)
    future.add_done_callback(lambda _: _FREE.release())
    return future.result(timeout=seconds - (time.monotonic() - begun))


def _apart(work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        connection.close()
