"""Idempotency keys replay the first answer."""

import threading

import pytest
import stripe

from sandbox.tests.support import stripe_builders as story


def keyed(key):
    return {"idempotency_key": key}


def count(api):
    return len(api.v1.customers.list({"limit": 100}).data)


def test_the_first_answer_is_replayed(api, stripe_sandbox):
    first = api.v1.customers.create({"name": "A"}, keyed("k"))
    second = api.v1.customers.create({"name": "A"}, keyed("k"))

    assert second.id == first.id
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert second.last_response.headers["Original-Request"] == (
        first.last_response.request_id
    )
    assert count(api) == 1
    assert [one["replayed"] for one in stripe_sandbox.requests("POST")] == [False, True]


def test_other_parameters_under_a_key_are_refused(api):
    api.v1.customers.create({"name": "A"}, keyed("k"))

    with pytest.raises(stripe.IdempotencyError, match="same parameters") as caught:
        api.v1.customers.create({"name": "B"}, keyed("k"))

    assert caught.value.http_status == 400


def test_another_endpoint_under_a_key_is_refused(api):
    api.v1.customers.create({"name": "A"}, keyed("k"))

    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        api.v1.products.create({"name": "A"}, keyed("k"))


def test_an_error_of_execution_is_replayed(api):
    made = story.customer(api)
    params = {"customer": made.id, "items": [{"price": "price_later"}]}

    answers = []
    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            api.v1.subscriptions.create(params, keyed("k"))
        answers.append(caught.value.headers or {})

    first, second = answers
    assert first["Original-Request"] == first["Request-Id"]
    assert second["Original-Request"] == first["Request-Id"] != second["Request-Id"]
    assert "Idempotent-Replayed" not in first
    assert first["Stripe-Should-Retry"] == second["Stripe-Should-Retry"] == "false"


def test_a_validation_error_is_not_kept(api):
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.customers.create({"nome": "A"}, keyed("k"))

    made = api.v1.customers.create({"name": "A"}, keyed("k"))

    assert made.name == "A"
    assert "Idempotent-Replayed" not in made.last_response.headers


@pytest.mark.parametrize("status", [409, 429])
def test_a_conflict_or_rate_limit_is_not_kept(api, stripe_sandbox, status):
    stripe_sandbox.fault("status", status=status)
    with pytest.raises(stripe.StripeError):
        api.v1.customers.create({"name": "A"}, keyed("k"))

    api.v1.customers.create({"name": "A"}, keyed("k"))

    assert count(api) == 1


def test_a_500_after_the_work_is_what_later_tries_see(api, stripe_sandbox):
    stripe_sandbox.fault("status", when="after", status=500)

    for _ in range(2):
        with pytest.raises(stripe.APIError) as caught:
            api.v1.customers.create({"name": "A"}, keyed("k"))
        assert caught.value.http_status == 500

    assert count(api) == 1


def test_a_500_before_the_work_is_not_kept(api, stripe_sandbox):
    stripe_sandbox.fault("status", when="before", status=500)
    with pytest.raises(stripe.APIError):
        api.v1.customers.create({"name": "A"}, keyed("k"))

    api.v1.customers.create({"name": "A"}, keyed("k"))

    assert count(api) == 1


def test_a_key_lasts_24_hours(api, stripe_sandbox):
    first = api.v1.customers.create({"name": "A"}, keyed("k"))

    stripe_sandbox.advance(24 * story.HOUR - 10)
    replayed = api.v1.customers.create({"name": "A"}, keyed("k"))
    stripe_sandbox.advance(20)
    fresh = api.v1.customers.create({"name": "A"}, keyed("k"))

    assert replayed.id == first.id
    assert fresh.id != first.id


def test_a_key_in_flight_is_a_conflict(api, stripe_sandbox):
    stripe_sandbox.fault("delay", when="before", seconds=30)
    made = []
    slow = threading.Thread(
        target=lambda: made.append(api.v1.customers.create({"name": "A"}, keyed("k")))
    )
    slow.start()
    wait_until_taken(stripe_sandbox)

    with pytest.raises(stripe.APIError) as caught:
        api.v1.customers.create({"name": "A"}, keyed("k"))
    stripe_sandbox.clear_faults()
    slow.join(10)

    assert caught.value.http_status == 409
    assert story.error_of(caught.value)["code"] == "idempotency_key_in_use"
    assert api.v1.customers.create({"name": "A"}, keyed("k")).id == made[0].id


def wait_until_taken(sandbox):
    """Wait until a request has used up the only fault."""
    pause = threading.Event()
    for _ in range(1_000):
        if not sandbox.app.faults.list():
            return
        pause.wait(0.005)
    raise AssertionError("no request met the fault")


def test_a_key_has_255_characters_at_most(api):
    assert api.v1.customers.create({"name": "A"}, keyed("k" * 255)).id

    with pytest.raises(stripe.InvalidRequestError, match="at most 255 characters"):
        api.v1.customers.create({"name": "A"}, keyed("k" * 256))


def test_keys_mean_nothing_to_delete_and_get(api):
    first, second = story.customer(api), story.customer(api)

    api.v1.customers.delete(first.id, options=keyed("k"))
    gone = api.v1.customers.delete(second.id, options=keyed("k"))
    read = api.v1.customers.retrieve(second.id, options=keyed("k"))

    assert gone.id == second.id
    assert read.deleted
    for answered in (gone, read):
        assert "Idempotent-Replayed" not in answered.last_response.headers
        assert "Original-Request" not in answered.last_response.headers
