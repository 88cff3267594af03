"""Authentication, parameters, errors, expand and pagination."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import stripe

from caravel.tests.support.waiting import read_line
from sandbox.stripe import API_VERSION
from sandbox.stripe.api import form_encoding
from sandbox.stripe.app import StripeApp
from sandbox.stripe.client.in_process import in_process_client
from sandbox.stripe.client.testing import running_sandbox
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.http import raw_request


def test_form_is_decoded_into_nested_hashes():
    text = "items[0][id]=si_1&items[0][deleted]=true&metadata[a]=&expand[]=x&expand[]=y"

    assert form_encoding.decode(text) == {
        "items": {"0": {"id": "si_1", "deleted": "true"}},
        "metadata": {"a": ""},
        "expand": {"0": "x", "1": "y"},
    }


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "You did not provide an API key."),
        ("Bearer sk_live_1234567890", "Invalid API Key provided: sk_"),
        ("Bearer pk_test_1234567890", "Invalid API Key provided: pk_"),
    ],
)
def test_request_without_a_test_key_is_a_401(stripe_sandbox, header, message):
    status, _, body = raw_request(
        stripe_sandbox, "GET", "/v1/customers", Authorization=header
    )

    assert status == 401
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"].startswith(message)
    assert "123456" not in body["error"]["message"]


def test_only_the_configured_key_is_accepted():
    app = StripeApp(api_key="sk_test_right")

    in_process_client(app, "sk_test_right").v1.customers.list()
    with pytest.raises(stripe.AuthenticationError):
        in_process_client(app, "sk_test_wrong").v1.customers.list()


def test_response_has_request_id_and_version_headers(stripe_sandbox):
    _, headers, _ = raw_request(stripe_sandbox, "GET", "/v1/customers")

    assert headers["Request-Id"].startswith("req_")
    assert headers["Stripe-Version"] == API_VERSION == stripe.api_version


def test_unknown_route_gets_stripes_404(stripe_sandbox):
    status, _, body = raw_request(stripe_sandbox, "POST", "/v1/foo", "")

    assert status == 404
    assert body["error"]["message"].startswith(
        "Unrecognized request URL (POST: /v1/foo). Please see"
    )


@pytest.mark.parametrize(
    ("params", "code", "param", "message"),
    [
        ("foo=1", "parameter_unknown", "foo", "Received unknown parameter: foo"),
        (
            "foo=1&bar=2",
            "parameter_unknown",
            "foo",
            "Received unknown parameters: foo, bar",
        ),
        (
            "billing_mode[planet]=Mars",
            "parameter_unknown",
            "billing_mode[planet]",
            "Received unknown parameter: billing_mode[planet]",
        ),
        (
            "days_until_due=x",
            "parameter_invalid_integer",
            "days_until_due",
            "Invalid integer: x",
        ),
        (
            "customer=",
            "parameter_invalid_empty",
            "customer",
            "You passed an empty string for 'customer'.",
        ),
        (
            "collection_method=later",
            None,
            "collection_method",
            "Invalid collection_method: must be one of charge_automatically or "
            "send_invoice",
        ),
        ("metadata=x", None, "metadata", "Invalid object"),
        (
            f"metadata[{'k' * 41}]=x",
            None,
            f"metadata[{'k' * 41}]",
            "Metadata keys can be at most 40 characters.",
        ),
    ],
)
def test_invalid_parameters_are_rejected_with_code_and_param(
    stripe_sandbox, params, code, param, message
):
    form = f"{params}&items[0][price]=price_x"
    form += "" if "customer" in params else "&customer=cus_x"

    status, _, body = raw_request(stripe_sandbox, "POST", "/v1/subscriptions", form)

    assert status == 400
    assert body["error"]["message"].startswith(message)
    assert body["error"].get("code") == code
    assert body["error"]["param"] == param


def test_error_names_the_missing_parameter(api):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.products.create({})

    assert caught.value.code == "parameter_missing"
    assert caught.value.user_message == "Missing required param: name."
    assert builders.error_of(caught.value)["doc_url"].endswith("/parameter-missing")


def test_missing_object_is_404_in_the_url_and_400_in_a_parameter(api):
    with pytest.raises(stripe.InvalidRequestError) as in_url:
        api.v1.customers.retrieve("cus_x")
    with pytest.raises(stripe.InvalidRequestError) as in_parameter:
        api.v1.subscriptions.create({"customer": "cus_x", "items": [{"price": "p"}]})

    for caught, status, param in ((in_url, 404, "id"), (in_parameter, 400, "customer")):
        assert caught.value.http_status == status
        assert caught.value.code == "resource_missing"
        assert caught.value.param == param
        assert caught.value.user_message == "No such customer: 'cus_x'"


def test_pagination_returns_every_object_once_newest_first(api):
    created = [builders.customer(api, name=str(number)).id for number in range(7)]

    page = api.v1.customers.list({"limit": 3})
    ids = [retrieved.id for retrieved in page.auto_paging_iter()]

    assert page.has_more
    assert ids == created[::-1]


def test_ending_before_returns_the_previous_page(api):
    created = [builders.customer(api).id for _ in range(5)]

    page = api.v1.customers.list({"limit": 2, "ending_before": created[1]})
    previous_page = api.v1.customers.list({"limit": 2, "ending_before": created[3]})

    assert [retrieved.id for retrieved in page.data] == [created[3], created[2]]
    assert page.has_more
    assert [retrieved.id for retrieved in previous_page.data] == [created[4]]
    assert not previous_page.has_more


def test_list_is_filtered_by_created(api, stripe_sandbox):
    earlier = builders.customer(api)
    stripe_sandbox.advance(100)
    later = builders.customer(api)

    def created(**bounds):
        return [
            retrieved.id
            for retrieved in api.v1.customers.list({"created": bounds}).data
        ]

    assert created(gte=later.created) == [later.id]
    assert created(lt=later.created) == [earlier.id]
    assert created(gt=earlier.created, lte=later.created) == [later.id]
    assert created(gt=later.created) == []


@pytest.mark.parametrize("limit", [0, 101])
def test_limit_must_be_between_1_and_100(api, limit):
    with pytest.raises(stripe.InvalidRequestError, match="This value must be"):
        api.v1.customers.list({"limit": limit})


def test_expand_replaces_ids_at_any_depth(api):
    subscription = builders.subscription(api)

    retrieved = api.v1.subscriptions.retrieve(
        subscription.id,
        {"expand": ["customer", "latest_invoice.customer", "items.data.price.product"]},
    )
    listed = api.v1.subscriptions.list({"expand": ["data.customer"]})

    assert retrieved.customer.email == "ann@example.com"
    assert retrieved.latest_invoice.customer.id == retrieved.customer.id
    assert retrieved.items.data[0].price.product.name == "Relay"
    assert listed.data[0].customer.id == retrieved.customer.id


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "This property cannot be expanded"),
        ("a.b.c.d.e", "You cannot expand more than 4 levels"),
    ],
)
def test_expanding_unknown_or_too_deep_paths_is_rejected(api, path, message):
    created = builders.customer(api)

    with pytest.raises(stripe.InvalidRequestError, match=message):
        api.v1.customers.retrieve(created.id, {"expand": [path]})


@pytest.mark.parametrize(
    "path", ["id", "status", "created", "metadata", "billing_mode.type", "customer.id"]
)
def test_expanding_fields_that_are_no_references_is_rejected(api, path):
    subscription = builders.subscription(api)

    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        api.v1.subscriptions.retrieve(subscription.id, {"expand": [path]})


def test_expanding_an_empty_reference_is_allowed(api):
    subscription = builders.subscription(api)
    paths = ["default_payment_method", "latest_invoice.payments", "items", "discounts"]

    expanded = api.v1.subscriptions.retrieve(subscription.id, {"expand": paths})

    assert expanded.default_payment_method is None
    assert expanded.latest_invoice.payments.data == []


def test_expanding_unknown_event_data_is_rejected(api):
    builders.customer(api)
    event = api.v1.events.list().data[0].id

    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        api.v1.events.retrieve(event, {"expand": ["data.nothing"]})


def test_concurrent_requests_get_distinct_ids(api):
    with ThreadPoolExecutor(32) as pool:
        created = list(pool.map(lambda _: builders.customer(api).id, range(96)))

    assert len(set(created)) == 96
    assert len(list(api.v1.customers.list({"limit": 100}).data)) == 96


def run_scenario(api):
    """Return the results of a few requests, without random values."""
    subscription = builders.subscription(
        api, builders.price(api), builders.price(api, 250)
    )
    invoice = builders.first_invoice(api, subscription)
    error = None
    try:
        api.v1.invoices.finalize_invoice(invoice.id)
    except stripe.InvalidRequestError as caught:
        error = (caught.http_status, caught.code, caught.user_message)
    return invoice.to_dict(), error, builders.event_types(api)


def test_in_process_transport_returns_the_same_responses_as_http(monkeypatch):
    now = 1_800_000_000
    monkeypatch.setattr("sandbox.stripe.clock.clock.time.time", lambda: now)
    with running_sandbox(seed=7) as sandbox:
        transport = stripe.RequestsClient(timeout=60)
        over_http = run_scenario(sandbox.client(http_client=transport))
        transport.close()

    app = StripeApp(seed=7)
    app.public_url = sandbox.url
    in_process = run_scenario(in_process_client(app))

    assert in_process == over_http


def test_command_serves_and_stops_on_sigterm(tmp_path):
    command = [sys.executable, "-m", "sandbox.stripe", "--port", "0"]
    with subprocess.Popen(
        [*command, "--state", str(tmp_path / "state.sqlite")],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        line = read_line(process)

        process.terminate()

        assert process.wait(60) == 0
    assert line.startswith("sandbox Stripe on http://127.0.0.1:")


def test_command_reports_a_port_in_use(stripe_sandbox):
    port = stripe_sandbox.url.rpartition(":")[2]

    result = subprocess.run(
        [sys.executable, "-m", "sandbox.stripe", "--port", port],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.returncode == 1
    assert result.stderr.startswith(f"sandbox Stripe cannot listen on 127.0.0.1:{port}")
    assert len(result.stderr.splitlines()) == 1
