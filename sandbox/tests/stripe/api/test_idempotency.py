"""Idempotency keys: replay, conflicts, expiry, and responses that are not stored."""

import threading

import pytest
import stripe

from caravel.tests.support.waiting import join
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.control import wait_until_fault_used


def test_same_idempotency_key_replays_the_first_response(api, stripe_sandbox):
    first = api.v1.customers.create({"name": "A"}, builders.with_key("k"))
    second = api.v1.customers.create({"name": "A"}, builders.with_key("k"))

    assert second.id == first.id
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert second.last_response.headers["Original-Request"] == (
        first.last_response.request_id
    )
    assert builders.count_customers(api) == 1
    assert [request["replayed"] for request in stripe_sandbox.requests("POST")] == [
        False,
        True,
    ]


def test_same_idempotency_key_with_other_parameters_is_rejected(api):
    api.v1.customers.create({"name": "A"}, builders.with_key("k"))

    with pytest.raises(stripe.IdempotencyError, match="same parameters") as caught:
        api.v1.customers.create({"name": "B"}, builders.with_key("k"))

    assert caught.value.http_status == 400


def test_same_idempotency_key_for_another_endpoint_is_rejected(api):
    api.v1.customers.create({"name": "A"}, builders.with_key("k"))

    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        api.v1.products.create({"name": "A"}, builders.with_key("k"))


def test_error_during_execution_is_replayed_for_its_idempotency_key(api):
    created = builders.customer(api)
    params = {"customer": created.id, "items": [{"price": "price_later"}]}

    headers = []
    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            api.v1.subscriptions.create(params, builders.with_key("k"))
        headers.append(caught.value.headers or {})

    first, second = headers
    assert first["Original-Request"] == first["Request-Id"]
    assert second["Original-Request"] == first["Request-Id"] != second["Request-Id"]
    assert "Idempotent-Replayed" not in first
    assert first["Stripe-Should-Retry"] == second["Stripe-Should-Retry"] == "false"


def test_validation_error_is_not_stored_under_the_idempotency_key(api):
    with pytest.raises(stripe.InvalidRequestError):
        api.v1.customers.create({"nome": "A"}, builders.with_key("k"))

    created = api.v1.customers.create({"name": "A"}, builders.with_key("k"))

    assert created.name == "A"
    assert "Idempotent-Replayed" not in created.last_response.headers


@pytest.mark.parametrize("status", [409, 429])
def test_conflict_or_rate_limit_is_not_stored_under_the_idempotency_key(
    api, stripe_sandbox, status
):
    stripe_sandbox.fault("status", status=status)
    with pytest.raises(stripe.StripeError):
        api.v1.customers.create({"name": "A"}, builders.with_key("k"))

    api.v1.customers.create({"name": "A"}, builders.with_key("k"))

    assert builders.count_customers(api) == 1


def test_500_after_execution_is_replayed_for_its_idempotency_key(api, stripe_sandbox):
    stripe_sandbox.fault("status", when="after", status=500)

    for _ in range(2):
        with pytest.raises(stripe.APIError) as caught:
            api.v1.customers.create({"name": "A"}, builders.with_key("k"))
        assert caught.value.http_status == 500

    assert builders.count_customers(api) == 1


def test_500_before_execution_is_not_stored_under_the_idempotency_key(
    api, stripe_sandbox
):
    stripe_sandbox.fault("status", when="before", status=500)
    with pytest.raises(stripe.APIError):
        api.v1.customers.create({"name": "A"}, builders.with_key("k"))

    api.v1.customers.create({"name": "A"}, builders.with_key("k"))

    assert builders.count_customers(api) == 1


def test_idempotency_key_expires_after_24_hours(api, stripe_sandbox):
    first = api.v1.customers.create({"name": "A"}, builders.with_key("k"))

    stripe_sandbox.advance(24 * builders.HOUR - 60)
    replayed = api.v1.customers.create({"name": "A"}, builders.with_key("k"))
    stripe_sandbox.advance(120)
    fresh = api.v1.customers.create({"name": "A"}, builders.with_key("k"))

    assert replayed.id == first.id
    assert fresh.id != first.id


def test_idempotency_key_of_a_request_in_flight_is_a_conflict(api, stripe_sandbox):
    stripe_sandbox.fault("delay", when="before", seconds=30)
    created = []
    slow = threading.Thread(
        target=lambda: created.append(
            api.v1.customers.create({"name": "A"}, builders.with_key("k"))
        )
    )
    slow.start()
    wait_until_fault_used(stripe_sandbox)

    with pytest.raises(stripe.APIError) as caught:
        api.v1.customers.create({"name": "A"}, builders.with_key("k"))
    stripe_sandbox.clear_faults()
    join(slow)

    assert caught.value.http_status == 409
    assert builders.error_of(caught.value)["code"] == "idempotency_key_in_use"
    assert (
        api.v1.customers.create({"name": "A"}, builders.with_key("k")).id
        == created[0].id
    )


def test_idempotency_key_longer_than_255_characters_is_rejected(api):
    assert api.v1.customers.create({"name": "A"}, builders.with_key("k" * 255)).id

    with pytest.raises(stripe.InvalidRequestError, match="at most 255 characters"):
        api.v1.customers.create({"name": "A"}, builders.with_key("k" * 256))


def test_idempotency_keys_are_ignored_for_delete_and_get(api):
    first, second = builders.customer(api), builders.customer(api)

    api.v1.customers.delete(first.id, options=builders.with_key("k"))
    deleted_customer = api.v1.customers.delete(
        second.id, options=builders.with_key("k")
    )
    read = api.v1.customers.retrieve(second.id, options=builders.with_key("k"))

    assert deleted_customer.id == second.id
    assert read.deleted
    for response in (deleted_customer, read):
        assert "Idempotent-Replayed" not in response.last_response.headers
        assert "Original-Request" not in response.last_response.headers
