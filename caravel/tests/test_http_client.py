import socket
import threading
from functools import partial

import pytest

from caravel.core.http_client import (
    NotConnected,
    RequestFailed,
    RequestTimeout,
    ResponseTooLarge,
    new_session,
    send,
)
from caravel.tests.support.http_server import response, running_server, self_signed

pytestmark = pytest.mark.django_db
post = partial(send, "POST", timeout=5, max_bytes=1000, body=b"{}")


def failure(url, **options):
    """Return the RequestFailed that a POST raises."""
    with pytest.raises(RequestFailed) as caught:
        post(url, **options)
    return caught.value


@pytest.fixture
def full_queue():
    """The URL of a server that accepts no more connections: it drops every SYN."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        with socket.create_connection(address):
            yield f"http://127.0.0.1:{address[1]}"


def test_method_headers_and_body_are_sent():
    with running_server(lambda _: response(201, b"done")) as server:
        answer = send(
            "PATCH",
            f"{server.url}/x?y",
            timeout=5,
            max_bytes=4,
            body=b'{"a": 1}',
            headers={"Host": "relay.example", "Accept": "application/nostr+json"},
        )

    assert (answer.status, answer.body) == (201, b"done")
    (request,) = server.requests
    assert (request.method, request.path, request.body) == (
        "PATCH",
        "/x?y",
        b'{"a": 1}',
    )
    assert request.headers["host"] == "relay.example"
    assert request.headers["accept"] == "application/nostr+json"


def test_signature_is_of_the_request_that_is_sent():
    def sign(request):
        request.headers["Authorization"] = f"{request.method} {request.url}"
        return request

    with running_server(lambda _: response()) as server:
        post(f"{server.url}/a b", sign=sign)

    assert server.requests[0].headers["authorization"] == f"POST {server.url}/a%20b"


def test_session_uses_connection_again_and_keeps_no_cookies():
    with running_server(lambda _: response(Set_Cookie="a=b")) as server:
        with new_session(1) as session:
            for _ in range(3):
                post(server.url, session=session)
        post(server.url)

    assert server.connections == 2
    assert not any("cookie" in request.headers for request in server.requests)


def test_session_survives_connection_that_the_server_has_closed():
    answers = iter([response(), b"", response()])
    with running_server(lambda _: next(answers)) as server, new_session(1) as session:
        post(server.url, session=session)
        assert not isinstance(failure(server.url, session=session), NotConnected)
        post(server.url, session=session)

    assert server.connections == 2


def test_response_that_is_too_large_ends_its_connection():
    answers = iter([response(200, b"x" * 100_000), response()])
    with running_server(lambda _: next(answers)) as server, new_session(1) as session:
        assert type(failure(server.url, session=session)) is ResponseTooLarge
        post(server.url, session=session)

    assert server.connections == 2


@pytest.mark.parametrize(("size", "accepted"), [(1000, True), (1001, False)])
def test_limit_is_exact(size, accepted):
    with running_server(lambda _: response(200, b"x" * size)) as server:
        if accepted:
            assert len(post(server.url).body) == size
        else:
            assert type(failure(server.url)) is ResponseTooLarge


def test_refused_connection_was_not_connected():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        error = failure(f"http://127.0.0.1:{bound.getsockname()[1]}")

    assert isinstance(error, NotConnected)
    assert str(error) == "no connection was made"


def test_connection_that_nobody_accepts_was_not_connected(full_queue):
    error = failure(full_queue, timeout=0.1)

    assert isinstance(error, NotConnected)
    assert str(error) == "no connection was made in time"


def test_untrusted_certificate_was_not_connected(tmp_path):
    tls, _ = self_signed(tmp_path)
    with running_server(lambda _: response(), tls) as server:
        error = failure(server.url)

    assert isinstance(error, NotConnected)
    assert str(error) == "its TLS certificate is not valid"
    assert server.requests == []


def test_certificate_of_own_authority_is_trusted(tmp_path, monkeypatch):
    tls, file = self_signed(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    with running_server(lambda _: response(), tls) as server:
        assert post(server.url).status == 200


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://[::", {}),
        (f"http://{'a' * 64}.example", {}),
        ("http://☃.example", {}),
        ("http://127.0.0.1:9", {"Host": "☃.example"}),
    ],
)
def test_request_that_http_cannot_express_was_not_connected(url, headers):
    error = failure(url, headers=headers)

    assert isinstance(error, NotConnected)
    assert str(error) == "its address is not valid"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"what is this\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
def test_request_without_usable_response_may_have_been_processed(answer):
    with running_server(lambda _: answer) as server:
        error = failure(server.url)

    assert type(error) is RequestFailed
    assert len(server.requests) == 1


def test_timeout_while_waiting_was_connected():
    waiting = threading.Event()

    def respond(_):
        waiting.wait()
        return response()

    with running_server(respond) as server:
        error = failure(server.url, timeout=0.1)
        waiting.set()

    assert type(error) is RequestTimeout
