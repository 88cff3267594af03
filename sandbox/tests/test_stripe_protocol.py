"""Authentication, parameters, errors, expand and pagination."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import stripe

from sandbox.stripe import API_VERSION
from sandbox.stripe.app import StripeApp
from sandbox.stripe.protocol import forms
from sandbox.stripe.testing import running_sandbox
from sandbox.stripe.transport import in_process_client
from sandbox.tests.support import stripe_builders as story


def raw(sandbox, method, path, body=None, **headers):
    """Return status, headers and JSON of a request that the SDK would not send."""
    request = urllib.request.Request(
        sandbox.url + path,
        data=body.encode() if body is not None else None,
        method=method,
        headers={"Authorization": "Bearer sk_test_x", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, json.load(error)


def test_forms_decode_into_nested_hashes():
    text = "items[0][id]=si_1&items[0][deleted]=true&metadata[a]=&expand[]=x&expand[]=y"

    assert forms.decode(text) == {
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
def test_a_request_without_a_test_key_is_refused(stripe_sandbox, header, message):
    status, _, body = raw(stripe_sandbox, "GET", "/v1/customers", Authorization=header)

    assert status == 401
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"].startswith(message)
    assert "123456" not in body["error"]["message"]


def test_only_the_configured_key_is_accepted():
    app = StripeApp(api_key="sk_test_right")

    in_process_client(app, "sk_test_right").v1.customers.list()
    with pytest.raises(stripe.AuthenticationError):
        in_process_client(app, "sk_test_wrong").v1.customers.list()


def test_every_answer_names_its_request_and_version(stripe_sandbox):
    _, headers, _ = raw(stripe_sandbox, "GET", "/v1/customers")

    assert headers["Request-Id"].startswith("req_")
    assert headers["Stripe-Version"] == API_VERSION == stripe.api_version


def test_an_unknown_route_is_answered_as_stripe_does(stripe_sandbox):
    status, _, body = raw(stripe_sandbox, "POST", "/v1/foo", "")

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
            "address[planet]=Mars",
            "parameter_unknown",
            "address[planet]",
            "Received unknown parameter: address[planet]",
        ),
        ("balance=x", "parameter_invalid_integer", "balance", "Invalid integer: x"),
        (
            "invoice_prefix=",
            "parameter_invalid_empty",
            "invoice_prefix",
            "You passed an empty string for 'invoice_prefix'.",
        ),
        (
            "tax_exempt=maybe",
            None,
            "tax_exempt",
            "Invalid tax_exempt: must be one of exempt, none or reverse",
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
def test_bad_parameters_are_refused(stripe_sandbox, params, code, param, message):
    status, _, body = raw(stripe_sandbox, "POST", "/v1/customers", params)

    assert status == 400
    assert body["error"]["message"].startswith(message)
    assert body["error"].get("code") == code
    assert body["error"]["param"] == param


def test_a_missing_parameter_is_named(api):
    with pytest.raises(stripe.InvalidRequestError) as caught:
        api.v1.products.create({})

    assert caught.value.code == "parameter_missing"
    assert caught.value.user_message == "Missing required param: name."
    assert story.error_of(caught.value)["doc_url"].endswith("/parameter-missing")


def test_a_missing_object_is_404_in_the_url_and_400_in_a_parameter(api):
    with pytest.raises(stripe.InvalidRequestError) as in_url:
        api.v1.customers.retrieve("cus_x")
    with pytest.raises(stripe.InvalidRequestError) as in_parameter:
        api.v1.subscriptions.create({"customer": "cus_x", "items": [{"price": "p"}]})

    for caught, status, param in ((in_url, 404, "id"), (in_parameter, 400, "customer")):
        assert caught.value.http_status == status
        assert caught.value.code == "resource_missing"
        assert caught.value.param == param
        assert caught.value.user_message == "No such customer: 'cus_x'"


def test_pages_cover_everything_once_newest_first(api):
    made = [story.customer(api, name=str(number)).id for number in range(7)]

    page = api.v1.customers.list({"limit": 3})
    walked = [one.id for one in page.auto_paging_iter()]

    assert page.has_more
    assert walked == made[::-1]


def test_ending_before_walks_back(api):
    made = [story.customer(api).id for _ in range(5)]

    near = api.v1.customers.list({"limit": 2, "ending_before": made[1]})
    rest = api.v1.customers.list({"limit": 2, "ending_before": made[3]})

    assert [one.id for one in near.data] == [made[3], made[2]]
    assert near.has_more
    assert [one.id for one in rest.data] == [made[4]]
    assert not rest.has_more


def test_lists_are_bounded_by_creation(api, stripe_sandbox):
    old = story.customer(api)
    stripe_sandbox.advance(100)
    new = story.customer(api)

    def created(**bounds):
        return [one.id for one in api.v1.customers.list({"created": bounds}).data]

    assert created(gte=new.created) == [new.id]
    assert created(lt=new.created) == [old.id]
    assert created(gt=old.created, lte=new.created) == [new.id]
    assert created(gt=new.created) == []


@pytest.mark.parametrize("limit", [0, 101])
def test_a_page_has_1_to_100_objects(api, limit):
    with pytest.raises(stripe.InvalidRequestError, match="This value must be"):
        api.v1.customers.list({"limit": limit})


def test_expand_replaces_ids_at_any_depth(api):
    subscribed = story.subscription(api)

    one = api.v1.subscriptions.retrieve(
        subscribed.id,
        {"expand": ["customer", "latest_invoice.customer", "items.data.price.product"]},
    )
    listed = api.v1.subscriptions.list({"expand": ["data.customer"]})

    assert one.customer.email == "ann@example.com"
    assert one.latest_invoice.customer.id == one.customer.id
    assert one.items.data[0].price.product.name == "Relay"
    assert listed.data[0].customer.id == one.customer.id


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "This property cannot be expanded"),
        ("a.b.c.d.e", "You cannot expand more than 4 levels"),
    ],
)
def test_what_cannot_be_expanded_is_refused(api, path, message):
    made = story.customer(api)

    with pytest.raises(stripe.InvalidRequestError, match=message):
        api.v1.customers.retrieve(made.id, {"expand": [path]})


@pytest.mark.parametrize(
    "path", ["id", "status", "created", "metadata", "billing_mode.type", "customer.id"]
)
def test_what_is_sent_anyway_is_not_expanded(api, path):
    subscribed = story.subscription(api)

    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        api.v1.subscriptions.retrieve(subscribed.id, {"expand": [path]})


def test_what_could_be_an_object_may_be_expanded_while_there_is_none(api):
    subscribed = story.subscription(api)
    paths = ["default_payment_method", "latest_invoice.payments", "items", "discounts"]

    shown = api.v1.subscriptions.retrieve(subscribed.id, {"expand": paths})

    assert shown.default_payment_method is None
    assert shown.latest_invoice.payments.data == []


def test_an_event_s_object_is_not_taken_for_the_name_of_one(api):
    story.customer(api)
    event = api.v1.events.list().data[0].id

    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        api.v1.events.retrieve(event, {"expand": ["data.nothing"]})


def test_threads_creating_at_once_get_distinct_ids(api):
    with ThreadPoolExecutor(32) as pool:
        made = list(pool.map(lambda _: story.customer(api).id, range(96)))

    assert len(set(made)) == 96
    assert len(list(api.v1.customers.list({"limit": 100}).data)) == 96


def story_told(api):
    """Return what happens, without what is random."""
    subscribed = story.subscription(api, story.price(api), story.price(api, 250))
    invoice = story.first_invoice(api, subscribed)
    error = None
    try:
        api.v1.invoices.finalize_invoice(invoice.id)
    except stripe.InvalidRequestError as caught:
        error = (caught.http_status, caught.code, caught.user_message)
    return invoice.to_dict(), error, story.event_types(api)


def test_the_in_process_transport_tells_the_same_story(monkeypatch):
    moment = 1_800_000_000
    monkeypatch.setattr("sandbox.stripe.clock.time.time", lambda: moment)
    with running_sandbox(seed=7) as sandbox:
        transport = stripe.RequestsClient(timeout=20)
        over_http = story_told(sandbox.client(http_client=transport))
        transport.close()

    app = StripeApp(seed=7)
    app.public_url = sandbox.url
    in_process = story_told(in_process_client(app))

    assert in_process == over_http


def test_the_command_serves_and_stops_on_sigterm(tmp_path):
    command = [sys.executable, "-m", "sandbox.stripe", "--port", "0"]
    with subprocess.Popen(
        [*command, "--state", str(tmp_path / "state.sqlite")],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        line = story.first_line(process)

        process.terminate()

        assert process.wait(10) == 0
    assert line.startswith("sandbox Stripe on http://127.0.0.1:")


def test_the_command_says_that_the_port_is_taken(stripe_sandbox):
    port = stripe_sandbox.url.rpartition(":")[2]

    done = subprocess.run(
        [sys.executable, "-m", "sandbox.stripe", "--port", port],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"sandbox Stripe cannot listen on 127.0.0.1:{port}")
    assert len(done.stderr.splitlines()) == 1
