"""Requests made to hold the web server's threads, or to hide in another's body."""

import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from waitress.adjustments import Adjustments

from caravel.web_server.connection import Channel, Phase
from caravel.web_server.worker import Threads, Worker

HOST = "Host: localhost\r\n"
GET = f"GET /second HTTP/1.1\r\n{HOST}\r\n"
EXPECT = f"POST /first HTTP/1.1\r\n{HOST}Expect: 100-continue\r\n"
#: About as much as headers may have; waitress's own parser needs seconds of CPU time.
SIZE = 15_000
#: What the settings of a connection depend on.
WORKER: Any = SimpleNamespace(cfg=SimpleNamespace(backlog=1))


@pytest.fixture
def channel() -> Iterator[Channel]:
    """A connection, over which `channel.client` sends; `channel.paths` were served."""
    paths = []

    def application(environ, start_response):
        paths.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Length", "4")])
        return [b"body"]

    server = SimpleNamespace(
        active_channels={},
        add_task=lambda channel: None,
        pull_trigger=lambda: None,
        accepting=True,
        application=application,
        adj=Adjustments(**Worker._adjustments(WORKER)),
        effective_port=80,
        server_name="localhost",
    )
    client, accepted = socket.socketpair()
    with client, accepted:
        channel = Channel(server, accepted, ("", None), server.adj, map={})
        channel.client, channel.paths = client, paths
        yield channel


def send(channel: Channel, text: str | bytes) -> None:
    channel.client.sendall(text if isinstance(text, bytes) else text.encode())
    channel.handle_read()


def answer(channel: Channel) -> str:
    """Return the bytes that the client gets, once nothing is left to serve."""
    while channel.requests:
        channel.service()
    received: bytes = channel.client.recv(65_536, socket.MSG_DONTWAIT)
    return received.decode()


# --- one request at a time


def test_requests_that_did_not_wait_for_the_first_response_hold_no_thread(channel):
    send(channel, f"GET /first HTTP/1.1\r\n{HOST}\r\n{GET}{GET}")

    received = answer(channel)

    assert channel.paths == ["/first"]
    assert "Connection: close" in received


@pytest.mark.parametrize(
    "header",
    [
        "Content-Length: 99999999",
        "Content-Length: x",
        "Transfer-Encoding: x",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        f"X: {'x' * SIZE}",
    ],
)
def test_body_of_a_refused_request_is_never_served_as_a_request(channel, header):
    send(channel, f"POST /first HTTP/1.1\r\n{HOST}{header}\r\n\r\n{GET}")

    received = answer(channel)

    assert channel.paths == [] or header.startswith("X")
    assert received.count("HTTP/1.1 ") + received.count("HTTP/1.0 ") == 1


def test_chunked_body_of_http_1_0_is_refused(channel):
    send(channel, f"POST / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n{GET}")

    assert answer(channel).startswith("HTTP/1.0 400")
    assert channel.paths == []


def test_second_request_after_a_response_is_served(channel):
    send(channel, GET)
    answer(channel)
    send(channel, GET)

    assert answer(channel).startswith("HTTP/1.1 200")


# --- responses


def test_head_gets_headers_only_and_the_connection_serves_the_next_request(channel):
    send(channel, GET.replace("GET", "HEAD"))

    headers = answer(channel)
    send(channel, GET)

    assert headers.endswith("\r\n\r\n")
    assert "Content-Length: 4" in headers
    assert answer(channel).endswith("body")


@pytest.mark.parametrize(
    "header", ["Content-Length: 99999999", "Content-Length: 0", "X-Nothing: 1"]
)
def test_client_is_not_asked_for_a_body_that_is_not_read(channel, header):
    send(
        channel,
        f"{EXPECT}{header}\r\n\r\n",
    )

    assert "100 Continue" not in answer(channel)


def test_client_that_waits_to_send_a_body_is_asked_for_it(channel):
    send(
        channel,
        f"{EXPECT}Content-Length: 1\r\n\r\n",
    )
    assert channel.client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    send(channel, "x")

    assert answer(channel).startswith("HTTP/1.1 200")


@pytest.fixture
def worker(channel) -> Worker:
    worker = Worker.__new__(Worker)
    worker._map = {0: channel}
    return worker


def test_connection_that_does_not_read_its_response_makes_room(channel, worker):
    channel.total_outbufs_len = 1
    assert channel.phase == Phase.RESPONSE

    assert worker._make_room(0)
    assert not channel.connected


def test_connection_whose_request_runs_keeps_its_place(channel, worker):
    send(channel, GET)

    assert not worker._make_room(0)
    assert channel.connected


def test_connection_whose_thread_failed_is_closed(channel, monkeypatch):
    monkeypatch.setattr(channel, "service", lambda: 1 / 0)
    send(channel, GET)

    Threads(1)._serve(channel)

    assert channel.writable()
    channel.handle_write()
    assert channel.client.recv(1) == b""


# --- texts that are expensive to parse


def seconds(channel: Channel, *parts: str) -> float:
    """Return the CPU time of this thread to receive and answer them."""
    before = time.thread_time()
    for part in parts:
        send(channel, part)
    answer(channel)
    return time.thread_time() - before


@pytest.mark.parametrize(
    "request_",
    [
        f"GET a://{'1' * SIZE} x\r\n\r\n",
        f"GET / HTTP/1.1\r\nX:{' ' * SIZE}x\r\n\r\n",
        f"GET / HTTP/1.1\r\nX:{' ' * SIZE}\0\r\n\r\n",
        f"GET / HTTP/1.1\r\nX: x\r\n{(' ' * 20 + chr(13) + chr(10)) * 650}\r\n",
    ],
    ids=["line", "spaces", "spaces-invalid", "folded"],
)
def test_no_request_is_expensive_to_parse(channel, request_):
    harmless = seconds(channel, f"GET / HTTP/1.1\r\n{HOST}X: {'1' * SIZE}\r\n\r\n")

    assert seconds(channel, request_) < 100 * harmless


@pytest.mark.parametrize("url", ["http://[", "http://a]b/"])
@pytest.mark.parametrize("number", ["0", "1" * 5_000])
def test_request_with_a_malformed_address_or_number_gets_a_response(
    channel, url, number
):
    request = f"POST {url} HTTP/1.1\r\n{HOST}Content-Length: {number}\r\n\r\n"
    send(channel, request)

    assert answer(channel).startswith("HTTP/1.1 400")


@pytest.mark.parametrize(("escapes", "status"), [(100, 200), (SIZE, 400)])
def test_cookie_that_is_expensive_to_read_is_refused(channel, escapes, status):
    cookie = "\\" * escapes
    send(channel, f'GET / HTTP/1.1\r\n{HOST}Cookie: a="{cookie}"\r\n\r\n')

    assert answer(channel).startswith(f"HTTP/1.1 {status}")


@pytest.mark.parametrize("unit", ["1", "\r\n", "1\r\nx\r\n", "1;a=b\r\nx\r\n"])
def test_body_that_consists_of_little_but_chunks_is_refused(channel, unit):
    send(channel, f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(10):
        if not channel.requests:
            send(channel, unit * (8_000 // len(unit)))

    assert answer(channel).startswith("HTTP/1.1 400")
