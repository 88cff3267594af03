"""The account's rate limit and latency: both in real time."""

import threading
import time

import pytest
import stripe

from sandbox.stripe.app import StripeApp
from sandbox.stripe.testing import running_sandbox
from sandbox.stripe.transport import in_process_client
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.test_stripe_idempotency import keyed
from sandbox.tests.test_stripe_protocol import raw


class Watch:
    """A stop watch that a test moves."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def watch():
    return Watch()


@pytest.fixture
def limited(watch):
    """A client of an account with two requests a second."""
    app = StripeApp(monotonic=watch)
    app.change_settings({"rate_limit": 2})
    return in_process_client(app)


def test_one_request_too_many_is_refused_as_stripe_does(limited):
    story.customer(limited)
    story.customer(limited)

    with pytest.raises(stripe.RateLimitError) as caught:
        story.customer(limited)

    error, headers = story.error_of(caught.value), caught.value.headers or {}
    assert caught.value.http_status == 429
    assert (error["type"], error["code"]) == ("invalid_request_error", "rate_limit")
    assert headers["Retry-After"] == "1"
    assert headers["Stripe-Rate-Limited-Reason"] == "global-rate"
    assert "Stripe-Should-Retry" not in headers


def test_requests_are_counted_over_the_last_second(limited, watch):
    story.customer(limited)
    watch.now += 0.6
    story.customer(limited)

    watch.now += 0.4
    story.customer(limited)
    with pytest.raises(stripe.RateLimitError):
        story.customer(limited)

    watch.now += 0.6
    assert len(limited.v1.customers.list().data) == 3


def test_no_key_keeps_the_refusal(limited, watch):
    limited.v1.customers.list()
    limited.v1.customers.list()
    with pytest.raises(stripe.RateLimitError) as caught:
        limited.v1.customers.create({"name": "A"}, keyed("k"))

    watch.now += 1
    made = limited.v1.customers.create({"name": "A"}, keyed("k"))

    assert "Original-Request" not in (caught.value.headers or {})
    assert "Idempotent-Replayed" not in made.last_response.headers


def test_a_wrong_key_and_the_control_interface_are_not_counted(stripe_sandbox, api):
    stripe_sandbox.settings(rate_limit=1)

    for _ in range(3):
        assert raw(stripe_sandbox, "GET", "/v1/customers", Authorization="")[0] == 401
        assert raw(stripe_sandbox, "GET", "/_sandbox/state")[0] == 200

    assert api.v1.customers.list().data == []


def test_an_account_has_no_limit_unless_it_is_set(api, stripe_sandbox):
    stripe_sandbox.settings(rate_limit=1)
    stripe_sandbox.settings(rate_limit=None)

    assert len([story.customer(api) for _ in range(5)]) == 5


def test_latency_delays_answers_and_nothing_else(api, stripe_sandbox):
    stripe_sandbox.settings(latency=0.6)

    began = time.monotonic()
    threads = [threading.Thread(target=story.customer, args=(api,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    stripe_sandbox.advance(1)
    unhurried = time.monotonic() - began
    for thread in threads:
        thread.join(10)
    took = time.monotonic() - began

    # One after the other they would take four times as long.
    assert unhurried < 0.6 <= took < 2.4
    stripe_sandbox.settings(latency=0)
    assert len(api.v1.customers.list().data) == 4


def test_a_stop_waits_for_no_latency():
    answers = []
    transport = stripe.RequestsClient(timeout=20)
    with running_sandbox() as sandbox:
        api = sandbox.client(http_client=transport)
        sandbox.settings(latency=60)
        slow = threading.Thread(target=lambda: answers.append(story.customer(api)))
        slow.start()
        while not sandbox.requests("POST"):
            time.sleep(0.005)
        began = time.monotonic()
    slow.join(10)
    transport.close()

    assert answers[0].email == "ann@example.com"
    assert time.monotonic() - began < 10
