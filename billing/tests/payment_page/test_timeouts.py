"""Calls in threads, with a timeout."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from unittest.mock import patch

import pytest
from django.conf import settings

from billing.services.payment_page import timeouts
from billing.services.payment_page.timeouts import run_with_timeout
from caravel.tests.support.waiting import LIMIT


@pytest.fixture(autouse=True)
def slot_timeout(monkeypatch):
    """Wait longer for a free thread: a busy machine may need more than a second."""
    monkeypatch.setattr(timeouts, "_SLOT_TIMEOUT", LIMIT)


def test_slow_call_raises_timeout_error():
    done = Event()

    with pytest.raises(TimeoutError):
        run_with_timeout(0.05, lambda: done.wait(LIMIT))
    done.set()

    assert run_with_timeout(LIMIT, lambda: 7) == 7


def test_exception_of_the_call_is_raised():
    with pytest.raises(ZeroDivisionError):
        run_with_timeout(LIMIT, lambda: 1 // 0)


def test_call_fails_soon_while_all_threads_are_busy(monkeypatch):
    done = Event()
    for _ in range(settings.SLOW_REQUESTS):
        with pytest.raises(TimeoutError):
            run_with_timeout(0.05, lambda: done.wait(LIMIT))

    with (
        monkeypatch.context() as patch_timeout,
        patch.object(timeouts._slots, "acquire", wraps=timeouts._slots.acquire) as wait,
        pytest.raises(TimeoutError, match="no free thread"),
    ):
        patch_timeout.setattr(timeouts, "_SLOT_TIMEOUT", 0.1)
        run_with_timeout(LIMIT, lambda: 7)
    wait.assert_called_once_with(timeout=0.1)

    done.set()
    assert run_with_timeout(LIMIT, lambda: 7) == 7


def test_more_calls_than_threads_all_complete():
    with ThreadPoolExecutor(20) as callers:
        results = list(
            callers.map(lambda n: run_with_timeout(LIMIT, lambda: n), range(200))
        )

    assert results == list(range(200))
