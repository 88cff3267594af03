from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier, Event

import pytest
import time_machine
from django.conf import settings
from django.test import RequestFactory

from caravel.core.web import throttling
from caravel.core.web.throttling import (
    Overloaded,
    Throttled,
    client_address,
    concurrency_limit,
    throttle,
)
from caravel.tests.support.waiting import LIMIT, result_of


def test_rate_applies_per_name_and_error_has_seconds_to_wait():
    for _ in range(3):
        throttle("3/minute", "test", "ann")
    throttle("3/minute", "test", "ben")

    with pytest.raises(Throttled) as caught:
        throttle("3/minute", "test", "ann")

    assert (caught.value.code, caught.value.status) == ("throttled", 429)
    assert 0 < caught.value.retry_after <= 60


def test_request_is_allowed_again_after_period():
    with time_machine.travel("2026-01-01T00:00:00Z", tick=False) as clock:
        throttle("1/minute", "test", "ann")
        with pytest.raises(Throttled):
            throttle("1/minute", "test", "ann")

        clock.shift(61)

        throttle("1/minute", "test", "ann")


def test_concurrent_requests_do_not_exceed_rate():
    barrier = Barrier(8, timeout=LIMIT)

    def call(_: int) -> bool:
        barrier.wait()
        try:
            throttle("3/hour", "test", "everybody")
        except Throttled:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(call, range(8))) == 3


def test_all_requests_are_allowed_while_redis_is_down(settings):
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"

    for _ in range(3):
        throttle("1/hour", "test", "ann")


def test_total_number_of_slow_calls_is_limited():
    slots = [concurrency_limit() for _ in range(settings.SLOW_REQUESTS)]
    for slot in slots:
        slot.__enter__()

    with pytest.raises(Overloaded), concurrency_limit():
        pass
    slots.pop().__exit__(None, None, None)

    with concurrency_limit():
        pass
    for slot in slots:
        slot.__exit__(None, None, None)


def test_one_key_gets_at_most_half_of_slots(settings):
    settings.SLOW_REQUESTS = 4
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(concurrency_limit("ann", "192.0.2.1"))

        for keys in [("ann", "192.0.2.2"), ("ben", "192.0.2.1")]:
            with pytest.raises(Overloaded), concurrency_limit(*keys):
                pass
        stack.enter_context(concurrency_limit("ben", "192.0.2.2"))
        stack.enter_context(concurrency_limit())
        with pytest.raises(Overloaded), concurrency_limit("eve"):
            pass

    with concurrency_limit("ann", "192.0.2.1"):
        pass


def test_exclusive_key_gets_one_slot_of_those_that_others_share(settings):
    settings.SLOW_REQUESTS = 4
    with concurrency_limit("wallets", exclusive=["ann", "192.0.2.1"]):
        for keys in [("ann", "192.0.2.2"), ("ben", "192.0.2.1")]:
            with pytest.raises(Overloaded):
                concurrency_limit("wallets", exclusive=keys).__enter__()

        with concurrency_limit("wallets", exclusive=["ben", "192.0.2.2"]):
            with pytest.raises(Overloaded):
                concurrency_limit("wallets", exclusive=["eve"]).__enter__()
            with concurrency_limit("ann"):
                pass

    with concurrency_limit("wallets", exclusive=["ann", "192.0.2.1"]):
        pass


def test_call_waits_briefly_for_free_slot(settings, monkeypatch):
    monkeypatch.setattr(throttling, "_SLOT_TIMEOUT", LIMIT)
    settings.SLOW_REQUESTS = 1
    entered = Event()

    def wait() -> None:
        with concurrency_limit("ben"):
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        with concurrency_limit("ann"):
            waiting = pool.submit(wait)
            assert not entered.wait(0.1)
        result_of(waiting, "the free slot")


def test_single_slot_can_be_used_by_any_key(settings):
    settings.SLOW_REQUESTS = 1

    with concurrency_limit("ann"), pytest.raises(Overloaded), concurrency_limit("ben"):
        pass
    with concurrency_limit("ben"):
        pass


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.9", "127.0.0.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (2, "198.51.100.1, 203.0.113.9", "198.51.100.1"),
        (2, "203.0.113.9", "203.0.113.9"),
        (1, "", "127.0.0.1"),
        (1, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
        (1, "no address", "unknown"),
    ],
)
def test_client_address_is_the_one_seen_by_trusted_proxies(
    settings, proxies, forwarded, address
):
    settings.TRUSTED_PROXIES = proxies
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}

    request = RequestFactory().get("/", headers=headers)

    assert client_address(request) == address
