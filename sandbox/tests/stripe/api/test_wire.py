"""Requests that no SDK sends: other methods, malformed bodies, types and versions."""

import json
import socket

import pytest
import stripe

from sandbox.common.server import MAX_BODY_BYTES
from sandbox.stripe import API_VERSION
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.http import raw_request

FORM = "Content-Type: application/x-www-form-urlencoded"
KEY = "Authorization: Bearer sk_test_x"


def send_bytes(sandbox, text):
    """Send bytes and return all that is received until the connection ends."""
    address = ("127.0.0.1", sandbox.server.port)
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(text.encode("latin-1") if isinstance(text, str) else text)
        response = b""
        while chunk := connection.recv(65_536):
            response += chunk
    return response


def send_request(sandbox, *lines, body=b""):
    """Send a request with these lines and return status and JSON."""
    head = "\r\n".join([*lines, "Host: 127.0.0.1", KEY, "Connection: close"])
    response = send_bytes(sandbox, f"{head}\r\n\r\n".encode("latin-1") + body)
    first, _, rest = response.partition(b"\r\n")
    return int(first.split()[1]), json.loads(rest.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS"])
def test_unsupported_method_is_an_unrecognized_url(stripe_sandbox, method):
    status, _, body = raw_request(stripe_sandbox, method, "/v1/customers", "name=A")

    assert status == 404
    assert body["error"]["message"].startswith(
        f"Unrecognized request URL ({method}: /v1/customers)"
    )


def test_head_response_has_no_body(stripe_sandbox):
    response = send_bytes(
        stripe_sandbox,
        f"HEAD /v1/customers HTTP/1.1\r\nHost: x\r\n{KEY}\r\nConnection: close\r\n\r\n",
    )

    assert response.startswith(b"HTTP/1.1 404 ")
    assert response.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "line",
    [
        "HELLO",
        "BREW /v1/customers HTTP/1.1",
        "GET /v1/customers HTTP/one",
    ],
)
def test_malformed_request_line_is_rejected(stripe_sandbox, line):
    response = send_bytes(stripe_sandbox, f"{line}\r\n\r\n")

    assert response.startswith(b"HTTP/1.1 400 ")


def test_chunked_body_is_read(stripe_sandbox, api):
    status, customer = send_request(
        stripe_sandbox,
        "POST /v1/customers HTTP/1.1",
        FORM,
        "Transfer-Encoding: chunked",
        body=b"5\r\nname=\r\n4;why=not\r\nAnna\r\n0\r\nTrailer: x\r\n\r\n",
    )

    assert status == 200
    assert api.v1.customers.retrieve(customer["id"]).name == "Anna"


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: many"],
        ["Content-Length: -6"],
        ["Content-Length: 6", "Content-Length: 3"],
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding: chunked", "Content-Length: 6"],
        ["Transfer-Encoding: chunked"],
    ],
)
def test_body_of_unclear_length_is_rejected_and_creates_nothing(
    stripe_sandbox, api, headers
):
    head = "\r\n".join(["POST /v1/customers HTTP/1.1", FORM, KEY, *headers])

    response = send_bytes(stripe_sandbox, f"{head}\r\n\r\nname=A")

    assert response.startswith(b"HTTP/1.1 400 ")
    assert api.v1.customers.list().data == []


def test_incomplete_body_creates_nothing(stripe_sandbox, api):
    head = "\r\n".join(["POST /v1/customers HTTP/1.1", FORM, KEY])
    address = ("127.0.0.1", stripe_sandbox.server.port)
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(f"{head}\r\nContent-Length: 60\r\n\r\nname=A".encode())

    assert api.v1.customers.list().data == []


def test_oversized_body_gets_a_413_response_after_it_was_sent(stripe_sandbox):
    status, _, response = raw_request(
        stripe_sandbox, "POST", "/v1/customers", "name=" + "x" * MAX_BODY_BYTES
    )

    assert status == 413
    assert str(MAX_BODY_BYTES) in response["error"]


@pytest.mark.parametrize(
    ("actual", "message"),
    [
        (
            "application/json",
            "Invalid request (check that your POST content type is "
            "application/x-www-form-urlencoded).",
        ),
        (
            "text/plain; charset=utf-8",
            "Invalid request: unsupported Content-Type text/plain; charset=utf-8.",
        ),
    ],
)
def test_body_with_another_content_type_is_rejected(stripe_sandbox, actual, message):
    status, _, body = raw_request(
        stripe_sandbox, "POST", "/v1/customers", "{}", **{"Content-Type": actual}
    )

    assert status == 400
    assert body["error"]["message"].startswith(message)


@pytest.mark.parametrize("body", [b"name=%FF", b"name=\xff"])
def test_form_that_is_not_utf_8_is_rejected(stripe_sandbox, body):
    status, response = send_request(
        stripe_sandbox,
        "POST /v1/customers HTTP/1.1",
        FORM,
        f"Content-Length: {len(body)}",
        body=body,
    )

    assert status == 400
    assert response["error"]["message"].startswith("Invalid UTF-8 characters")


def test_ids_in_the_url_are_unquoted(stripe_sandbox):
    status, _, body = raw_request(stripe_sandbox, "GET", "/v1/customers/cus%20%C3%A9")

    assert status == 404
    assert body["error"]["message"] == "No such customer: 'cus é'"


@pytest.mark.parametrize("version", ["2019-2-19", "yesterday", "2019-02-19", ""])
def test_unsupported_api_versions_are_rejected(stripe_sandbox, version):
    status, headers, body = raw_request(
        stripe_sandbox, "GET", "/v1/customers", **{"Stripe-Version": version}
    )

    assert status == 400
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"].startswith(
        f"Invalid Stripe API version: {version}."
    )
    assert API_VERSION in body["error"]["message"]
    assert headers["Stripe-Version"] == API_VERSION


def test_list_with_two_cursors_is_rejected(api):
    customer = builders.customer(api)
    both: dict[str, str] = {"starting_after": customer.id, "ending_before": customer.id}
    invoice = builders.first_invoice(api, builders.subscription(api))

    for send in (
        lambda: api.v1.customers.list(both),
        lambda: api.v1.invoices.line_items.list(invoice.id, both),
    ):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            send()
        assert caught.value.user_message == (
            "Received both starting_after and ending_before parameters. Please pass in "
            "only one."
        )


@pytest.mark.parametrize(
    "number",
    ["1_000", "٣", "1e3", "9999999999999999999"],
)
def test_integer_with_other_characters_is_rejected(stripe_sandbox, number):
    status, _, body = raw_request(
        stripe_sandbox,
        "POST",
        "/v1/subscriptions/sub_x",
        f"days_until_due={number}",
        **{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
    )

    assert status == 400
    assert body["error"]["code"] == "parameter_invalid_integer"


@pytest.mark.parametrize("index", ["%C2%B2", "1" * 5000, "x"])
def test_array_index_with_other_characters_is_rejected(stripe_sandbox, index):
    status, _, body = raw_request(stripe_sandbox, "GET", f"/v1/events?types[{index}]=a")

    assert status == 400
    assert body["error"]["message"] == "Invalid array"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("expand=customer", "Invalid array"),
        ("expand[]=", "You passed an empty string for 'expand[0]'."),
        ("expand[][x]=customer", "Invalid string"),
        ("expand[]=..", "This property cannot be expanded (..)."),
        ("limit=", "Invalid integer: "),
        ("limit[]=1", "Invalid integer: "),
        ("starting_after=cus_x", "No such customer: 'cus_x'"),
    ],
)
def test_list_with_invalid_parameters_is_rejected(stripe_sandbox, api, query, message):
    builders.customer(api)

    status, _, body = raw_request(stripe_sandbox, "GET", f"/v1/customers?{query}")

    assert status == 400
    assert body["error"]["message"].startswith(message)


def test_parameters_that_are_nested_too_deep_are_rejected(stripe_sandbox):
    status, _, body = raw_request(
        stripe_sandbox, "POST", "/v1/customers", f"metadata{'[a]' * 5000}=x"
    )

    assert status == 400
    assert body["error"]["message"].startswith("Invalid parameter name: metadata[a]")
