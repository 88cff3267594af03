"""Faults, the request log and the rest of the control interface."""

import json
import threading
import time
import urllib.error
import urllib.request

import pytest
import stripe

from sandbox.tests.support import stripe_builders as story
from sandbox.tests.test_stripe_idempotency import count, wait_until_taken


def control(sandbox, method, path, body=None):
    request = urllib.request.Request(
        f"{sandbox.url}/_sandbox/{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    ("fault", "error", "made"),
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
def test_a_fault_strikes_once_and_at_the_given_moment(
    api, stripe_sandbox, fault, error, made
):
    status, shown = control(
        stripe_sandbox,
        "POST",
        "faults",
        {"method": "POST", "path": "^/v1/customers$", **fault},
    )
    api.v1.products.create({"name": "not meant"})

    with pytest.raises(error):
        story.customer(api)

    assert status == 200
    assert shown["id"].startswith("fault_")
    assert count(api) == made
    story.customer(api)
    assert count(api) == made + 1


def test_a_fault_can_carry_headers_and_an_error(api, stripe_sandbox):
    stripe_sandbox.fault(
        "status",
        status=429,
        headers={"Retry-After": "1"},
        error={"message": "slow down"},
    )

    with pytest.raises(stripe.RateLimitError) as caught:
        story.customer(api)

    assert (caught.value.headers or {})["Retry-After"] == "1"
    assert caught.value.user_message == "slow down"
    assert story.error_of(caught.value)["code"] == "rate_limit"


def test_a_fault_lasts_as_many_requests_as_it_says(api, stripe_sandbox):
    stripe_sandbox.fault("status", times=None)

    for _ in range(3):
        with pytest.raises(stripe.APIError):
            story.customer(api)
    stripe_sandbox.clear_faults()

    assert story.customer(api).id


def test_work_is_stored_while_its_answer_is_delayed(api, stripe_sandbox):
    stripe_sandbox.fault("delay", when="after", seconds=60)
    answers = []
    slow = threading.Thread(target=lambda: answers.append(story.customer(api)))
    began = time.monotonic()
    slow.start()
    wait_until_taken(stripe_sandbox)

    seen = wait_for_customer(api)
    stripe_sandbox.clear_faults()
    slow.join(10)

    assert answers[0].id == seen.id
    assert time.monotonic() - began < 30


def wait_for_customer(api):
    for _ in range(1_000):
        if found := api.v1.customers.list().data:
            return found[0]
    raise AssertionError("nothing was stored")


def test_requests_are_logged_without_credentials(api, stripe_sandbox):
    made = story.customer(api, name="Ann")
    api.v1.customers.retrieve(made.id)

    entries = stripe_sandbox.requests("POST", "/v1/customers")
    _, body = control(stripe_sandbox, "GET", "requests?method=get&path=customers")

    assert [one["params"]["name"] for one in entries] == ["Ann"]
    assert entries[0]["status"] == 200
    assert [one["path"] for one in body["data"]] == [f"/v1/customers/{made.id}"]
    assert "sk_test" not in json.dumps(stripe_sandbox.requests())


def test_the_clock_moves_by_request(stripe_sandbox):
    _, before = control(stripe_sandbox, "GET", "clock")
    _, after = control(stripe_sandbox, "POST", "clock/advance", {"seconds": 1_000})

    assert 1_000 <= after["now"] - before["now"] <= 1_002


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
def test_control_refuses_nonsense(stripe_sandbox, path, body):
    status, answer = control(stripe_sandbox, "POST", path, body)

    assert status == 400
    assert answer["error"]


def test_state_counts_objects_and_reset_forgets_them(api, stripe_sandbox):
    story.customer(api)

    _, before = control(stripe_sandbox, "GET", "state")
    _, after = control(stripe_sandbox, "POST", "reset")

    assert before["objects"]["customer"] == 1
    assert before["objects"]["event"] == 1
    assert after["objects"] == {}
