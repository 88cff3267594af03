"""Calls in threads, with a timeout."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from django.conf import settings

from billing.services.payment_page.timeouts import run_with_timeout


def test_slow_call_raises_timeout_error():
    done = Event()

    with pytest.raises(TimeoutError):
        run_with_timeout(0.05, lambda: done.wait(20))
    done.set()

    assert run_with_timeout(5, lambda: 7) == 7


def test_exception_of_the_call_is_raised():
    with pytest.raises(ZeroDivisionError):
        run_with_timeout(5, lambda: 1 // 0)


def test_call_fails_soon_while_all_threads_are_busy():
    done = Event()
    for _ in range(settings.SLOW_REQUESTS):
        with pytest.raises(TimeoutError):
            run_with_timeout(0.05, lambda: done.wait(20))

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        run_with_timeout(5, lambda: 7)
    assert time.monotonic() - started < 2

    done.set()
    assert run_with_timeout(5, lambda: 7) == 7


def test_more_calls_than_threads_all_complete():
    with ThreadPoolExecutor(20) as callers:
        results = list(
            callers.map(lambda n: run_with_timeout(5, lambda: n), range(200))
        )

    assert results == list(range(200))
