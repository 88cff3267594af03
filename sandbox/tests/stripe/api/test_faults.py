"""Faults of API requests, and the endpoints of the control API."""

import json
import threading

import pytest
import stripe

from caravel.tests.support.waiting import join, wait_until
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.control import control, wait_until_fault_used


@pytest.mark.parametrize(
    ("fault", "error", "created"),
    [
        ({"kind": "status", "status": 500}, stripe.APIError, 0),
        ({"kind": "status", "status": 503, "when": "after"}, stripe.APIError, 1),
        ({"kind": "status", "status": 429}, stripe.RateLimitError, 0),
        ({"kind": "reset"}, stripe.APIConnectionError, 0),
        ({"kind": "reset", "when": "after"}, stripe.APIConnectionError, 1),
        ({"kind": "timeout", "seconds": 0.01}, stripe.APIConnectionError, 0),
        (
            {"kind": "timeout", "seconds": 0.01, "when": "after"},
            stripe.APIConnectionError,
            1,
        ),
    ],
)
def test_fault_applies_once_before_or_after_execution(
    api, stripe_sandbox, fault, error, created
):
    status, added = control(
        stripe_sandbox,
        "POST",
        "faults",
        {"method": "POST", "path": "^/v1/customers$", **fault},
    )
    api.v1.products.create({"name": "not affected"})

    with pytest.raises(error):
        builders.customer(api)

    assert status == 200
    assert added["id"].startswith("fault_")
    assert builders.count_customers(api) == created
    builders.customer(api)
    assert builders.count_customers(api) == created + 1


def test_status_fault_sets_headers_and_error_fields(api, stripe_sandbox):
    stripe_sandbox.fault(
        "status",
        status=429,
        headers={"Retry-After": "1"},
        error={"message": "slow down"},
    )

    with pytest.raises(stripe.RateLimitError) as caught:
        builders.customer(api)

    assert (caught.value.headers or {})["Retry-After"] == "1"
    assert caught.value.user_message == "slow down"
    assert builders.error_of(caught.value)["code"] == "rate_limit"


def test_fault_without_times_applies_until_cleared(api, stripe_sandbox):
    stripe_sandbox.fault("status", times=None)

    for _ in range(3):
        with pytest.raises(stripe.APIError):
            builders.customer(api)
    stripe_sandbox.clear_faults()

    assert builders.customer(api).id


def test_delay_after_execution_stores_the_object_before_the_response(
    api, stripe_sandbox
):
    stripe_sandbox.fault("delay", when="after", seconds=3_600)
    responses = []
    slow = threading.Thread(target=lambda: responses.append(builders.customer(api)))
    slow.start()
    wait_until_fault_used(stripe_sandbox)

    wait_until(lambda: api.v1.customers.list().data, "a stored customer")
    [stored] = api.v1.customers.list().data
    assert responses == []
    stripe_sandbox.clear_faults()
    join(slow)

    assert responses[0].id == stored.id


def test_requests_are_logged_without_credentials(api, stripe_sandbox):
    created = builders.customer(api, name="Ann")
    api.v1.customers.retrieve(created.id)

    entries = stripe_sandbox.requests("POST", "/v1/customers")
    _, body = control(stripe_sandbox, "GET", "requests?method=get&path=customers")

    assert [entry["params"]["name"] for entry in entries] == ["Ann"]
    assert entries[0]["status"] == 200
    assert [entry["path"] for entry in body["data"]] == [f"/v1/customers/{created.id}"]
    assert "sk_test" not in json.dumps(stripe_sandbox.requests())


def test_control_api_advances_the_clock(stripe_sandbox):
    _, before = control(stripe_sandbox, "GET", "clock")
    _, after = control(stripe_sandbox, "POST", "clock/advance", {"seconds": 1_000})

    assert 1_000 <= after["now"] - before["now"] < 1_060


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("clock/advance", {"seconds": -1}),
        ("faults", {"kind": "earthquake"}),
        ("faults", {"kind": "reset", "colour": "red"}),
        ("faults", {"kind": "reset", "path": "("}),
        ("webhooks", {"paused": "perhaps"}),
        ("faults", []),
    ],
)
def test_control_api_rejects_invalid_bodies(stripe_sandbox, path, body):
    status, response = control(stripe_sandbox, "POST", path, body)

    assert status == 400
    assert response["error"]


def test_state_counts_objects_and_reset_deletes_them(api, stripe_sandbox):
    builders.customer(api)

    _, before = control(stripe_sandbox, "GET", "state")
    _, after = control(stripe_sandbox, "POST", "reset")

    assert before["objects"]["customer"] == 1
    assert before["objects"]["event"] == 1
    assert after["objects"] == {}
