"""Calls to other services that a page waits for only briefly."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import TypeVar

from django.conf import settings
from django.db import connection

from caravel.core.db.transactions import release_connection

T = TypeVar("T")
_POOL = ThreadPoolExecutor(settings.SLOW_REQUESTS, thread_name_prefix="payment-page")
_slots = BoundedSemaphore(settings.SLOW_REQUESTS)
#: Seconds to wait for a free thread. If all are stuck, the next call would be as well.
_SLOT_TIMEOUT = 1.0


def run_with_timeout(seconds: float, work: Callable[[], T]) -> T:
    """Run a function in another thread and return its result.

    Raises its exceptions, or TimeoutError when it takes longer or no thread gets free.
    The function still runs to its end then, so its result may be cached for the next
    call. The caller's database connection is released: not for use in a transaction.
    """
    release_connection()
    started = time.monotonic()
    if not _slots.acquire(timeout=min(_SLOT_TIMEOUT, seconds)):
        raise TimeoutError("no free thread")
    future = _POOL.submit(_run_and_close_connection, work)
    # Released when the work ends, not at the timeout: until then the thread is busy.
    future.add_done_callback(lambda _: _slots.release())
    return future.result(timeout=seconds - (time.monotonic() - started))


def _run_and_close_connection(work: Callable[[], T]) -> T:
    try:
        return work()
    finally:
        connection.close()
