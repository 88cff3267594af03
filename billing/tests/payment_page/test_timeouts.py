"""Waiting a moment for others."""

import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from django.conf import settings

from billing.services.payment_page.timeouts import run_with_timeout


def test_what_takes_too_long_is_not_waited_for():
    done = Event()

    with pytest.raises(TimeoutError):
        run_with_timeout(0.05, lambda: done.wait(20))
    done.set()

    assert run_with_timeout(5, lambda: 7) == 7


def test_what_goes_wrong_is_raised():
    with pytest.raises(ZeroDivisionError):
        run_with_timeout(5, lambda: 1 // 0)


def test_while_all_are_held_up_nobody_else_waits_long():
    done = Event()
    for _ in range(settings.SLOW_REQUESTS):
        with pytest.raises(TimeoutError):
            run_with_timeout(0.05, lambda: done.wait(20))

    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        run_with_timeout(5, lambda: 7)
    assert time.monotonic() - begun < 2

    done.set()
    assert run_with_timeout(5, lambda: 7) == 7


def test_many_at_once_have_their_turn():
    with ThreadPoolExecutor(20) as visitors:
        found = list(visitors.map(lambda n: run_with_timeout(5, lambda: n), range(200)))

    assert found == list(range(200))
