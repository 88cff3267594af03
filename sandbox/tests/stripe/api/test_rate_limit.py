"""Rate limit and latency of the account, both in real time."""

import threading

import pytest
import stripe

from caravel.tests.support.waiting import LIMIT, join, wait_until
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.client.testing import running_sandbox
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.http import raw_request


class ManualTimer:
    """Monotonic clock that the test advances."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def timer():
    return ManualTimer()


@pytest.fixture
def limited_api(timer):
    """Client of an account that is limited to two requests per second."""
    app = StripeApp(monotonic=timer)
    app.change_settings({"rate_limit": 2})
    return in_process_client(app)


def test_request_above_the_rate_limit_gets_stripes_429(limited_api):
    builders.customer(limited_api)
    builders.customer(limited_api)

    with pytest.raises(stripe.RateLimitError) as caught:
        builders.customer(limited_api)

    error, headers = builders.error_of(caught.value), caught.value.headers or {}
    assert caught.value.http_status == 429
    assert (error["type"], error["code"]) == ("invalid_request_error", "rate_limit")
    assert headers["Retry-After"] == "1"
    assert headers["Stripe-Rate-Limited-Reason"] == "global-rate"
    assert "Stripe-Should-Retry" not in headers


def test_rate_limit_counts_requests_of_the_last_second(limited_api, timer):
    builders.customer(limited_api)
    timer.now += 0.6
    builders.customer(limited_api)

    timer.now += 0.4
    builders.customer(limited_api)
    with pytest.raises(stripe.RateLimitError):
        builders.customer(limited_api)

    timer.now += 0.6
    assert len(limited_api.v1.customers.list().data) == 3


def test_rate_limit_error_is_not_stored_under_an_idempotency_key(limited_api, timer):
    limited_api.v1.customers.list()
    limited_api.v1.customers.list()
    with pytest.raises(stripe.RateLimitError) as caught:
        limited_api.v1.customers.create({"name": "A"}, builders.with_key("k"))

    timer.now += 1
    created = limited_api.v1.customers.create({"name": "A"}, builders.with_key("k"))

    assert "Original-Request" not in (caught.value.headers or {})
    assert "Idempotent-Replayed" not in created.last_response.headers


def test_rate_limit_ignores_unauthenticated_and_control_requests(stripe_sandbox, api):
    stripe_sandbox.settings(rate_limit=1)

    for _ in range(3):
        assert (
            raw_request(stripe_sandbox, "GET", "/v1/customers", Authorization="")[0]
            == 401
        )
        assert raw_request(stripe_sandbox, "GET", "/_sandbox/state")[0] == 200

    assert api.v1.customers.list().data == []


def test_rate_limit_can_be_removed(api, stripe_sandbox):
    stripe_sandbox.settings(rate_limit=1)
    stripe_sandbox.settings(rate_limit=None)

    assert len([builders.customer(api) for _ in range(5)]) == 5


class DelayedResponses:
    """Takes the place of the event that ends latency when the sandbox stops."""

    def __init__(self, app, monkeypatch):
        self.waiting: list[float] = []
        self._released = threading.Event()
        monkeypatch.setattr(app._closing, "wait", self._wait)

    def release(self):
        self._released.set()

    def _wait(self, seconds):
        self.waiting.append(seconds)
        assert self._released.wait(LIMIT)


def test_latency_delays_concurrent_responses_only(api, stripe_sandbox, monkeypatch):
    delays = DelayedResponses(stripe_sandbox.app, monkeypatch)
    stripe_sandbox.settings(latency=0.6)

    threads = [
        threading.Thread(target=builders.customer, args=(api,)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: delays.waiting == [0.6] * 4, details=lambda: delays.waiting)
    stripe_sandbox.advance(1)
    delays.release()
    join(*threads)

    stripe_sandbox.settings(latency=0)
    assert len(api.v1.customers.list().data) == 4


def test_stopping_the_server_does_not_wait_for_latency():
    responses = []
    transport = stripe.RequestsClient(timeout=60)
    with running_sandbox() as sandbox:
        api = sandbox.client(http_client=transport)
        sandbox.settings(latency=3_600)
        slow = threading.Thread(target=lambda: responses.append(builders.customer(api)))
        slow.start()
        wait_until(lambda: sandbox.requests("POST"))
    join(slow)
    transport.close()

    assert responses[0].email == "ann@example.com"
