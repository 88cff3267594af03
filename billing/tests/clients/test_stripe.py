"""Retries and errors of the Stripe client, against the sandbox."""

import time
from fractions import Fraction
from functools import partial

import pytest
import redis

from billing.clients.stripe import errors, rate_limit, transport
from billing.clients.stripe.client import API_VERSION, Stripe
from billing.clients.stripe.transport import TRIES
from caravel.core.db.transactions import NetworkInTransaction, release_connection
from caravel.core.exceptions import LeaseLost

pytestmark = pytest.mark.django_db

CREATE = {"email": "a@example.com", "metadata": {"tenant_pubkey": "ab"}}


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def stripe(sandbox, pauses):
    return Stripe(sleep=pauses.append)


def tries(sandbox):
    return len(sandbox.requests("POST", "/v1/customers"))


def test_calls_send_the_pinned_api_version(sandbox, stripe):
    stripe.customers.create(CREATE, "k1")

    created = sandbox.client().v1.events.list({"type": "customer.created"}).data[0]
    assert created.api_version == API_VERSION


@pytest.mark.parametrize("status", [500, 502, 503, 409, 429])
def test_temporary_errors_are_retried(sandbox, stripe, pauses, status):
    sandbox.fault("status", path="^/v1/customers$", status=status, times=TRIES - 1)

    made = stripe.customers.create(CREATE, "k1")

    assert made.email == "a@example.com"
    assert tries(sandbox) == TRIES
    assert 0.5 <= pauses[0] <= 0.75
    assert 1.0 <= pauses[1] <= 1.5


def test_lost_answer_is_retried_without_a_second_effect(sandbox, stripe):
    sandbox.fault("reset", path="^/v1/customers$", when="after")

    stripe.customers.create(CREATE, "k1")

    assert len(sandbox.client().v1.customers.list({}).data) == 1


def test_outcome_is_unknown_when_a_5xx_is_replayed(sandbox, stripe):
    """Stripe replays the first answer to a key, even a 500."""
    sandbox.fault("status", path="^/v1/customers$", when="after", status=500)

    with pytest.raises(errors.StripeUnavailable):
        stripe.customers.create(CREATE, "k1")

    assert tries(sandbox) == TRIES
    assert len(sandbox.client().v1.customers.list({}).data) == 1


def test_all_tries_of_a_call_send_the_same_key(sandbox, stripe):
    sandbox.fault("reset", path="^/v1/customers$", times=TRIES - 1)

    stripe.customers.create(CREATE, "the-key")

    keys = {r["idempotency_key"] for r in sandbox.requests("POST", "/v1/customers")}
    assert keys == {"the-key"}


def test_retry_after_is_honoured(sandbox, stripe, pauses):
    sandbox.fault(
        "status", path="^/v1/customers$", status=429, headers={"Retry-After": "7"}
    )

    stripe.customers.create(CREATE, "k1")

    assert pauses == [7.0]


def test_long_retry_after_is_raised_to_the_caller(sandbox, stripe, pauses):
    sandbox.fault(
        "status", path="^/v1/customers$", status=429, headers={"Retry-After": "60"}
    )

    with pytest.raises(errors.StripeRateLimited):
        stripe.customers.create(CREATE, "k1")

    assert pauses == []


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"type": "invalid_request_error"}, errors.StripeRefused),
        (401, {"type": "invalid_request_error"}, errors.StripeRefused),
        (402, {"type": "card_error"}, errors.StripeRefused),
        (403, {"type": "invalid_request_error"}, errors.StripeRefused),
        (404, {"type": "invalid_request_error"}, errors.StripeNotFound),
    ],
)
def test_refusals_are_not_retried(sandbox, stripe, status, error, kind):
    sandbox.fault("status", path="^/v1/customers$", status=status, error=error)

    with pytest.raises(kind):
        stripe.customers.create(CREATE, "k1")

    assert tries(sandbox) == 1


def test_refusal_has_stripes_message_type_code_and_param(sandbox, stripe):
    sandbox.fault(
        "status",
        path="^/v1/customers$",
        status=400,
        error={
            "type": "invalid_request_error",
            "code": "email_invalid",
            "param": "email",
            "message": "Invalid email address",
        },
    )

    with pytest.raises(errors.StripeRefused) as caught:
        stripe.customers.create(CREATE, "k1")

    refused = caught.value
    assert (refused.type, refused.stripe_code, refused.param) == (
        "invalid_request_error",
        "email_invalid",
        "email",
    )
    assert "Invalid email address" in str(refused)


def test_reused_key_has_its_own_error(sandbox, stripe):
    stripe.customers.create(CREATE, "k1")

    with pytest.raises(errors.StripeReusedKey):
        stripe.customers.create({**CREATE, "email": "b@example.com"}, "k1")


def test_outcome_is_unknown_when_stripe_is_unreachable(stripe, settings):
    settings.STRIPE_API_BASE = "http://127.0.0.1:1"

    with pytest.raises(errors.StripeUnavailable):
        stripe.customers.create(CREATE, "k1")


def test_outcome_is_unknown_after_a_timeout(sandbox, stripe, monkeypatch):
    from billing.clients.stripe import transport as client

    monkeypatch.setattr(client, "TIMEOUT", (2.0, 0.1))
    client._client.cache_clear()
    sandbox.fault("delay", path="^/v1/customers$", seconds=20, times=TRIES)

    with pytest.raises(errors.StripeUnavailable):
        stripe.customers.create(CREATE, "k1")

    client._client.cache_clear()
    sandbox.clear_faults()


def test_outcome_is_unknown_when_rate_limited_after_a_lost_answer(sandbox, stripe):
    path = "^/v1/customers$"
    sandbox.fault("reset", path=path, when="after")
    sandbox.fault("status", path=path, status=429, times=2)

    with pytest.raises(errors.StripeUnavailable):
        stripe.customers.create(CREATE, "k1")

    assert len(sandbox.client().v1.customers.list({}).data) == 1


def test_before_try_runs_before_every_try_and_can_prevent_it(sandbox):
    sandbox.fault("status", path="^/v1/customers$", status=500, times=2)
    seen = []

    def allow_two():
        seen.append(1)
        if len(seen) == 3:
            raise LeaseLost("gone")

    stripe = Stripe(before_try=allow_two, sleep=lambda seconds: None)
    with pytest.raises(LeaseLost):
        stripe.customers.create(CREATE, "k1")

    assert tries(sandbox) == 2


def test_lists_read_all_pages(sandbox, stripe, prices):
    customer = stripe.customers.create(CREATE, "k1").id
    for n in range(105):
        made = stripe.subscriptions.create(
            {
                "customer": customer,
                "items": [{"price": prices["basic"]}],
                "collection_method": "send_invoice",
                "days_until_due": 7,
            },
            f"s{n}",
        )
        stripe.subscriptions.cancel(made.id, prorate=False, invoice_now=False)

    assert len(stripe.subscriptions.list(customer=customer, ended=True)) == 105
    assert stripe.subscriptions.list(customer=customer) == []


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_no_call_inside_a_transaction(sandbox):
    from django.db import transaction

    with transaction.atomic(), pytest.raises(NetworkInTransaction):
        Stripe().customers.get("cus_1")
    assert sandbox.requests() == []

    release_connection()


# --- the shared rate limit


@pytest.fixture
def waits(settings, sandbox, monkeypatch):
    """The thousands of seconds that calls have waited for their turn.

    There is one in a thousand seconds: how long the test takes makes no difference.
    """
    settings.STRIPE_MAX_REQUESTS_PER_SECOND = Fraction(1, 1_000) / Fraction(4, 5)
    monkeypatch.setattr(rate_limit, "MAX_WAIT", 3_500.0)
    monkeypatch.setattr(rate_limit, "INTERACTIVE_MAX_WAIT", 3_500.0)
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        for key in client.scan_iter("caravel-turn:*"):
            client.delete(key)
    return []


@pytest.fixture
def acquire(waits):
    """Take a turn, and record the wait for it."""
    return partial(
        rate_limit.acquire, sleep=lambda seconds: waits.append(round(seconds / 1_000))
    )


def test_calls_over_the_rate_limit_wait_for_turns_one_after_the_other(acquire, waits):
    for _ in range(4):
        acquire()

    assert waits == [1, 2, 3]


def test_call_whose_turn_is_too_far_ahead_fails_and_takes_none(acquire, waits):
    for _ in range(4):
        acquire()

    delays = []
    for _ in range(2):
        with pytest.raises(errors.StripeRateLimited) as caught:
            acquire()
        delays.append(round(caught.value.retry_after / 1_000))

    assert waits == [1, 2, 3]
    assert delays == [4, 4]


def test_person_does_not_wait_behind_background_work(acquire, waits):
    for _ in range(3):
        acquire()
    waits.clear()

    acquire(interactive=True)

    assert waits == []


def test_person_uses_the_turn_that_background_work_does_not_need(acquire, waits):
    for _ in range(2):
        acquire(interactive=True)
    assert waits == []

    acquire()
    assert waits == [1]


def test_turns_of_background_work_stay_taken_while_a_person_asks(acquire, waits):
    for _ in range(3):
        acquire()
    acquire(interactive=True)

    acquire()

    assert waits == [1, 2, 3]


def test_calls_do_not_wait_for_hours_after_the_clock_of_redis_was_set_back(
    acquire, waits, settings
):
    day_ahead = int((time.time() + 86_400) * 1_000_000)
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.set("caravel-turn:stripe-BACKGROUND", day_ahead)

    acquire()

    assert waits == []


def test_no_database_connection_is_held_while_a_call_waits_for_its_turn(
    stripe, monkeypatch
):
    released, waiting = [], []
    monkeypatch.setattr(transport, "release_connection", lambda: released.append(True))
    monkeypatch.setattr(
        transport, "acquire", lambda **options: waiting.append(len(released))
    )

    stripe.customers.create({"email": "ann@example.com"}, "key")

    assert waiting == [1]


def test_calls_are_allowed_without_redis(settings, sandbox, caplog):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"

    rate_limit.acquire()

    assert "rate_limit_unavailable" in caplog.text


def test_interactive_calls_have_one_try_and_a_short_timeout(sandbox, monkeypatch):
    monkeypatch.setattr(transport, "INTERACTIVE_TIMEOUT", (1.0, 0.2))
    customer = Stripe().customers.create({"email": "ann@example.com"}, "key").id
    sandbox.fault("delay", method="GET", seconds=2, times=1)

    # With another try, or the usual timeout, it would succeed.
    with transport.interactive(), pytest.raises(errors.StripeUnavailable):
        Stripe().customers.get(customer)

    sandbox.fault("status", method="GET", status=500, times=1)
    with transport.interactive(), pytest.raises(errors.StripeUnavailable):
        Stripe().customers.get(customer)
    assert Stripe().customers.get(customer).id == customer
