"""Control API: access, invalid requests, faults and the request log."""

import http.client
import json

import pytest
import requests
import stripe

from sandbox.common import access
from sandbox.common.http import Request
from sandbox.stripe.api.redaction import HIDDEN
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.client.testing import running_sandbox
from sandbox.stripe.control.routes import handle as handle_control
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.control import control


def send_reset(sandbox, headers):
    """Send a reset with only these headers and return the status."""
    host, port = "127.0.0.1", sandbox.server.port
    connection = http.client.HTTPConnection(host, port, timeout=60)
    connection.putrequest("POST", "/_sandbox/reset", skip_host=True)
    for name, value in headers.items():
        connection.putheader(name, value.replace("PORT", str(port)))
    connection.putheader("Content-Length", "0")
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:PORT"},
        {"Host": "localhost:PORT"},
        {"Host": "[::1]:PORT"},
        {"Host": "stripe.localhost:PORT"},
        {},
        {"Host": "localhost:PORT", "Origin": "http://localhost:PORT"},
        {"Host": "localhost:PORT", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_local_control_request_is_allowed(stripe_sandbox, api, headers):
    builders.customer(api)

    assert send_reset(stripe_sandbox, headers) == 200
    assert api.v1.customers.list().data == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:PORT"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "192.168.1.7:PORT"},
        {"Host": "[nonsense"},
        {"Host": "localhost:PORT", "Origin": "https://evil.example"},
        {"Host": "localhost:PORT", "Origin": "http://localhost:1"},
        {"Host": "localhost:PORT", "Origin": "null"},
        {"Host": "localhost:PORT", "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_control_request_from_a_web_site_is_denied(stripe_sandbox, api, headers):
    builders.customer(api)

    assert send_reset(stripe_sandbox, headers) == 403
    assert len(api.v1.customers.list().data) == 1


@pytest.mark.parametrize(
    ("client", "allowed"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("10.0.0.3", False)],
)
def test_control_requests_are_allowed_from_loopback_addresses_only(client, allowed):
    denial = access.denial_reason(Request("POST", "/_sandbox/reset", client=client))

    assert (denial is None) is allowed


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("clock/advance", {}),
        ("clock/advance", {"seconds": 1.5}),
        ("clock/advance", {"seconds": 10**30}),
        ("clock/advance", {"seconds": 1, "deliver": "yes"}),
        ("clock/advance", {"seconds": 1, "deliver": True, "patience": -1}),
        ("clock/advance", {"second": 1}),
        ("faults", {}),
        ("faults", {"kind": "status", "status": "500"}),
        ("faults", {"kind": "status", "status": 204}),
        ("faults", {"kind": "status", "chance": 0}),
        ("faults", {"kind": "status", "chance": 2}),
        ("faults", {"kind": "status", "times": 0}),
        ("faults", {"kind": "status", "when": "during"}),
        ("faults", {"kind": "status", "method": 1}),
        ("faults", {"kind": "status", "path": None}),
        ("faults", {"kind": "status", "params": "x"}),
        ("faults", {"kind": "status", "error": []}),
        ("faults", {"kind": "status", "headers": {"X": "a\r\nSet-Cookie: b"}}),
        ("faults", {"kind": "delay", "seconds": "1"}),
        ("faults", {"kind": "status", "hits": 3}),
        ("webhooks/faults", {"kind": "status"}),
        ("webhooks/faults", {"kind": "delay"}),
        ("webhooks/faults", {"kind": "drop", "type": ""}),
        ("webhooks/faults", {"kind": "drop", "type": "[a]"}),
        ("webhooks/faults", {"kind": "drop", "seconds": -1}),
        ("webhooks/faults", {"kind": "drop", "chance": "half"}),
        ("webhooks/faults", {"kind": "drop", "times": True}),
        ("webhooks", {"paused": True, "resumed": False}),
        ("snapshot", {}),
        ("snapshot", {"name": ""}),
        ("restore", {"name": 1}),
        ("events/evt_x/redeliver", {"endpoint": 1}),
    ],
)
def test_invalid_control_body_is_a_400_and_changes_nothing(stripe_sandbox, path, body):
    before = control(stripe_sandbox, "GET", "state")[1]

    status, response = control(stripe_sandbox, "POST", path, body)

    assert status == 400
    assert response["error"]
    after = control(stripe_sandbox, "GET", "state")[1]
    assert {**after, "now": 0} == {**before, "now": 0}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "events/evt_x/redeliver"),
        ("POST", "snapshots"),
        ("GET", "nothing"),
        ("PUT", "settings"),
    ],
)
def test_unknown_control_endpoint_or_object_is_a_404(stripe_sandbox, method, path):
    assert control(stripe_sandbox, method, path, {})[0] == 404


def test_control_body_that_is_not_json_is_a_400(stripe_sandbox):
    url = f"{stripe_sandbox.url}/_sandbox/settings"

    for body in ("latency=1", "[" * 100_000):
        assert requests.post(url, data=body, timeout=60).status_code == 400


def test_fault_with_chance_is_repeatable_with_a_seed():
    def outcomes(seed):
        with running_sandbox(seed=seed) as sandbox:
            sandbox.fault("status", chance=0.5, times=None)
            api = in_process_client(sandbox.app)
            return [is_faulty(api) for _ in range(40)]

    first = outcomes(7)

    assert outcomes(7) == first
    assert outcomes(8) != first
    assert 5 < sum(first) < 35


def is_faulty(api):
    try:
        builders.customer(api)
    except stripe.APIError:
        return True
    return False


def test_clearing_faults_restarts_their_random_sequence():
    with running_sandbox(seed=7) as sandbox:
        api, runs = in_process_client(sandbox.app), []
        for _ in range(2):
            sandbox.fault("status", chance=0.5, times=None)
            runs.append([is_faulty(api) for _ in range(20)])
            sandbox.clear_faults()

    assert runs[0] == runs[1]


def test_fault_with_params_applies_to_matching_requests_only():
    app = StripeApp()
    api = in_process_client(app)
    status, fault = in_process_control(
        app, "faults", {"kind": "status", "params": {"email": "bad@example.com"}}
    )

    builders.customer(api)
    with pytest.raises(stripe.APIError):
        builders.customer(api, email="bad@example.com")

    assert status == 200
    assert fault["params"] == {"email": "bad@example.com"}


def test_advancing_the_clock_backwards_raises_value_error():
    app = StripeApp()

    with pytest.raises(ValueError, match="only moves forward"):
        app.advance(-1)


def in_process_control(app, path, body):
    request = Request("POST", f"/_sandbox/{path}", body=json.dumps(body).encode())
    response = handle_control(app, request)
    return response.status, json.loads(response.body)


def test_should_retry_is_sent_for_lock_timeout_but_not_for_rate_limit(
    api, stripe_sandbox
):
    responses = []
    for fault in ({"status": 409}, {"status": 429}):
        stripe_sandbox.fault("status", **fault)
        with pytest.raises(stripe.StripeError) as caught:
            builders.customer(api)
        responses.append((caught.value.headers or {}).get("Stripe-Should-Retry"))

    assert responses == ["true", None]


@pytest.mark.parametrize(
    "form",
    [
        "type=card&card[number]=4242424242424242&card[cvc]=123&card[exp_month]=12",
        "name=4242+4242+4242+4242",
        "metadata[4242-4242-4242-4242]=x",
        "api_key=sk_live_51Habcdefghijklmnop",
        "metadata[note]=whsec_abcdefghijkl",
        "bank_account[account_number]=000123456789",
    ],
)
def test_request_log_hides_card_numbers_and_keys(form):
    app = StripeApp()
    headers = {"authorization": "Bearer sk_test_x"}
    body = form.encode()

    app.handle(Request("POST", "/v1/customers", "", headers, body))
    app.handle(Request("GET", "/v1/customers/sk_live_51Habcdefghij", "", headers))

    logged = json.dumps(app.log.list())
    assert HIDDEN in logged
    for secret in ("4242", '"123"', "51Habc", "abcdefghijkl", "000123456789"):
        assert secret not in logged


def test_deleted_requests_are_returned_once(stripe_sandbox, api):
    control(stripe_sandbox, "DELETE", "requests")
    builders.customer(api)

    taken, again = (control(stripe_sandbox, "DELETE", "requests")[1] for _ in "12")

    assert [each["path"] for each in taken["data"]] == ["/v1/customers"]
    assert again == {"data": []}


def test_request_log_keeps_long_numbers_that_are_no_cards(api, stripe_sandbox):
    builders.customer(api, metadata={"when": "1733000000000", "phone": "491711234567"})

    logged = stripe_sandbox.requests("POST")[0]["params"]["metadata"]

    assert logged == {"when": "1733000000000", "phone": "491711234567"}
