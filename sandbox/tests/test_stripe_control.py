"""The control interface: who may use it, and what it makes of nonsense."""

import http.client
import json

import pytest
import requests
import stripe

from sandbox.stripe import guard
from sandbox.stripe.app import StripeApp
from sandbox.stripe.control import handle as handle_control
from sandbox.stripe.protocol.http import Request
from sandbox.stripe.redaction import HIDDEN
from sandbox.stripe.testing import running_sandbox
from sandbox.stripe.transport import in_process_client
from sandbox.tests.support import stripe_builders as story
from sandbox.tests.test_stripe_faults import control


def reset_by(sandbox, headers):
    """Return the status of a reset asked for with these headers and no others."""
    host, port = sandbox.server.server_address[:2]
    connection = http.client.HTTPConnection(host, port, timeout=10)
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
def test_this_machine_may_control(stripe_sandbox, api, headers):
    story.customer(api)

    assert reset_by(stripe_sandbox, headers) == 200
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
def test_a_web_site_may_not_control(stripe_sandbox, api, headers):
    story.customer(api)

    assert reset_by(stripe_sandbox, headers) == 403
    assert len(api.v1.customers.list().data) == 1


@pytest.mark.parametrize(
    ("client", "may"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("10.0.0.3", False)],
)
def test_another_machine_may_not_control(client, may):
    objection = guard.denial_reason(Request("POST", "/_sandbox/reset"), client)

    assert (objection is None) is may


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
def test_nonsense_is_a_400_and_changes_nothing(stripe_sandbox, path, body):
    before = control(stripe_sandbox, "GET", "state")[1]

    status, answer = control(stripe_sandbox, "POST", path, body)

    assert status == 400
    assert answer["error"]
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
def test_what_is_not_there_is_a_404(stripe_sandbox, method, path):
    assert control(stripe_sandbox, method, path, {})[0] == 404


def test_a_body_that_is_not_json_is_a_400(stripe_sandbox):
    url = f"{stripe_sandbox.url}/_sandbox/settings"

    for body in ("latency=1", "[" * 100_000):
        assert requests.post(url, data=body, timeout=5).status_code == 400


def test_a_chance_falls_alike_in_every_run_with_the_same_seed():
    def struck(seed):
        with running_sandbox(seed=seed) as sandbox:
            sandbox.fault("status", chance=0.5, times=None)
            api = in_process_client(sandbox.app)
            return [outcome(api) for _ in range(40)]

    first = struck(7)

    assert struck(7) == first
    assert struck(8) != first
    assert 5 < sum(first) < 35


def outcome(api):
    try:
        story.customer(api)
    except stripe.APIError:
        return True
    return False


def test_a_cleared_chance_begins_anew():
    with running_sandbox(seed=7) as sandbox:
        api, runs = in_process_client(sandbox.app), []
        for _ in range(2):
            sandbox.fault("status", chance=0.5, times=None)
            runs.append([outcome(api) for _ in range(20)])
            sandbox.clear_faults()

    assert runs[0] == runs[1]


def test_a_fault_is_for_requests_with_these_parameters():
    app = StripeApp()
    api = in_process_client(app)
    status, shown = in_process_control(
        app, "faults", {"kind": "status", "params": {"email": "bad@example.com"}}
    )

    story.customer(api)
    with pytest.raises(stripe.APIError):
        story.customer(api, email="bad@example.com")

    assert status == 200
    assert shown["params"] == {"email": "bad@example.com"}


def test_the_clock_does_not_step_back():
    app = StripeApp()

    with pytest.raises(ValueError, match="only moves forward"):
        app.advance(-1)


def in_process_control(app, path, body):
    request = Request("POST", f"/_sandbox/{path}", body=json.dumps(body).encode())
    response = handle_control(app, request, None)
    return response.status, json.loads(response.body)


def test_a_lock_is_the_one_conflict_stripe_wants_tried_again(api, stripe_sandbox):
    answers = []
    for given in ({"status": 409}, {"status": 429}):
        stripe_sandbox.fault("status", **given)
        with pytest.raises(stripe.StripeError) as caught:
            story.customer(api)
        answers.append((caught.value.headers or {}).get("Stripe-Should-Retry"))

    assert answers == ["true", None]


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
def test_the_log_holds_no_numbers_that_pay_and_no_keys(form):
    app = StripeApp()
    headers = {"authorization": "Bearer sk_test_x"}
    body = form.encode()

    app.handle(Request("POST", "/v1/customers", "", headers, body))
    app.handle(Request("GET", "/v1/customers/sk_live_51Habcdefghij", "", headers))

    logged = json.dumps(app.log.list())
    assert HIDDEN in logged
    for secret in ("4242", '"123"', "51Habc", "abcdefghijkl", "000123456789"):
        assert secret not in logged


def test_the_log_keeps_numbers_that_do_not_pay(api, stripe_sandbox):
    story.customer(api, metadata={"when": "1733000000000", "phone": "491711234567"})

    logged = stripe_sandbox.requests("POST")[0]["params"]["metadata"]

    assert logged == {"when": "1733000000000", "phone": "491711234567"}
