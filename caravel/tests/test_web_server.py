"""The web server, as the Procfile starts it: slow clients, large and odd requests."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path
from select import select
from types import SimpleNamespace

import pytest
from waitress.adjustments import Adjustments

from billing.tests.support.processes import environment
from caravel.tests.support.waiting import LIMIT, wait_until
from caravel.tests.support.waiting_app import LARGE
from caravel.tests.support.web_server import (
    WebServer,
    command,
    running,
)
from caravel.web_server.connection import SECONDS, Channel, Phase
from caravel.web_server.worker import MAX_CONNECTIONS

pytestmark = pytest.mark.processes

#: More than the threads of both processes.
SLOW = 40
WEBHOOK = "POST /stripe/webhook HTTP/1.1\r\nHost: localhost\r\n"
MAX_BODY = 1024 * 1024


@pytest.fixture(scope="module")
def web(django_db_setup, django_db_blocker, tmp_path_factory) -> Iterator[WebServer]:
    log = tmp_path_factory.mktemp("web") / "web.log"
    with (
        django_db_blocker.unblock(),
        running(command(), environment(), log) as server,
    ):
        yield server


# --- slow clients


@pytest.mark.parametrize(
    "part",
    [
        f"{WEBHOOK}Content-Length: 100\r\n\r\nx",
        f"{WEBHOOK}Transfer-Encoding: chunked\r\n\r\n64\r\nx",
        f"{WEBHOOK}X-Slow: ",
        "P",
    ],
    ids=["body", "chunk", "headers", "line"],
)
def test_clients_that_stop_in_the_middle_of_a_request_hold_no_thread(web, part):
    with ExitStack() as stack:
        for _ in range(SLOW):
            stack.enter_context(web.connect()).send(part)

        assert [web.get("/healthz") for _ in range(SLOW)] == [200] * SLOW


def test_request_is_served_while_there_are_too_many_slow_connections(web):
    with ExitStack() as stack:
        slow = [stack.enter_context(web.connect()) for _ in range(3 * MAX_CONNECTIONS)]
        for connection in slow:
            # The server has closed the first ones.
            with suppress(OSError):
                connection.send(WEBHOOK)

        assert web.get("/healthz") == 200


@pytest.fixture
def channel() -> Iterator[Channel]:
    """A connection that sends into `channel.client`."""
    server = SimpleNamespace(active_channels={}, add_task=lambda channel: None)
    client, accepted = socket.socketpair()
    with client, accepted:
        channel = Channel(server, accepted, ("", None), Adjustments(), map={})
        channel.client = client
        yield channel


def send(channel: Channel, text: str) -> None:
    channel.client.sendall(text.encode())
    channel.handle_read()


def test_request_must_be_complete_in_time_however_often_a_byte_arrives(channel):
    began = channel._since
    limit = SECONDS[Phase.REQUEST]

    send(channel, WEBHOOK)
    assert not channel.is_late(began + limit - 1)
    send(channel, "X-Slow: 1\r\n")

    assert channel.is_late(began + limit + 1)


def test_connection_without_a_byte_is_late_as_well(channel):
    assert channel.is_late(channel._since + SECONDS[Phase.REQUEST] + 1)


def test_complete_request_is_never_late_and_its_successor_has_its_own_time(channel):
    began = channel._since
    send(channel, f"{WEBHOOK}Content-Length: 1\r\n\r\nx")
    later = began + 3_600

    assert channel.phase == Phase.THREAD
    assert not channel.is_late(later)
    channel.requests.clear()
    channel._served += 1
    assert not channel.is_late(later)
    assert not channel.is_late(later + SECONDS[Phase.NEXT_REQUEST] - 1)
    send(channel, WEBHOOK)
    assert not channel.is_late(later + SECONDS[Phase.NEXT_REQUEST])
    assert channel.is_late(
        later + SECONDS[Phase.NEXT_REQUEST] + SECONDS[Phase.REQUEST] + 1
    )


def test_client_that_does_not_read_its_response_is_late(channel):
    channel.total_outbufs_len = 1

    assert channel.phase == Phase.RESPONSE
    assert not channel.is_late(channel._since + 3_600)
    assert channel.is_late(channel._since + SECONDS[Phase.RESPONSE] + 1)


def test_client_has_its_time_for_each_mib_of_a_response(channel):
    limit = SECONDS[Phase.RESPONSE]
    channel.total_outbufs_len = 1
    began = channel._since
    assert not channel.is_late(began + 1)

    channel._sent += 1024 * 1024
    assert not channel.is_late(began + limit + 1)
    assert not channel.is_late(began + 2 * limit)
    channel._sent += 1024

    assert channel.is_late(began + 2 * limit + 2)


def test_bytes_that_are_sent_are_counted(channel):
    assert channel.send(b"body") == 4

    assert channel._sent == 4


def test_client_that_stops_reading_a_download_is_late_while_its_thread_waits(channel):
    send(channel, WEBHOOK)
    channel.requests = ["a download"]
    channel.total_outbufs_len = channel.adj.outbuf_high_watermark
    assert channel.phase == Phase.THREAD

    channel.total_outbufs_len += 1

    assert channel.phase == Phase.RESPONSE
    assert not channel.is_late(channel._since + 1)
    assert channel.is_late(channel._since + SECONDS[Phase.RESPONSE] + 1)


def test_receiving_thread_does_not_look_at_a_connection_over_which_another_sends(
    channel,
):
    channel.total_outbufs_len = 1
    channel.requests = ["a request"]
    looks = []

    with channel.outbuf_lock, ThreadPoolExecutor() as pool:
        looks.append(pool.submit(channel.writable).result(LIMIT))
    looks.append(channel.writable())

    assert looks == [False, True]


def test_response_larger_than_all_buffers_arrives(tmp_path):
    arguments = command("caravel.tests.support.waiting_app")
    with (
        running(arguments, environment(), tmp_path / "web.log") as server,
        server.connect() as client,
    ):
        client.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")

        status, body = client.response()

    assert (status, len(body)) == (200, LARGE)


# --- large and odd requests


@pytest.mark.parametrize("path", ["/admin/login/", "/pay/x", "/api/tenants"])
@pytest.mark.parametrize("sent", [0, 60 * MAX_BODY], ids=["headers", "whole"])
def test_large_upload_is_refused_by_its_length_and_the_client_reads_so(web, path, sent):
    with web.connect() as client:
        client.send(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: {60 * MAX_BODY}\r\n\r\n"
        )
        client.send(bytes(sent))

        status, body = client.response()

    assert (status, json.loads(body)["code"]) == (413, "body-too-large")


def test_large_upload_without_a_length_is_refused(web):
    with web.connect() as client:
        client.send(f"{WEBHOOK}Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(17):
            client.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")

        status, body = client.response()

    assert (status, json.loads(body)["code"]) == (413, "body-too-large")


def test_body_of_the_maximum_size_reaches_the_application(web):
    with web.connect() as client:
        client.send(f"{WEBHOOK}Content-Length: {MAX_BODY}\r\n\r\n")
        client.send(bytes(MAX_BODY))

        status, body = client.response()

    assert (status, json.loads(body)["code"]) == (400, "signature-invalid")


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (f"GET /{'x' * 20_000} HTTP/1.1\r\n\r\n", 431, "headers-too-large"),
        (f"GET /{'secret' * 650} HTTP/1.1\r\n\r\n", 414, "url-too-long"),
        (
            f"POST /?{'x' * 2_000} HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
            414,
            "url-too-long",
        ),
        ("nonsense\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "bad-request"),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n", 501, "not-implemented"),
    ],
)
def test_request_that_is_not_http_is_refused_with_a_code(web, request_, status, code):
    with web.connect() as client:
        client.send(request_)

        answer, body = client.response()

    assert (answer, json.loads(body)["code"]) == (status, code)


@pytest.mark.parametrize("header", ["SCRIPT_NAME: /evil", "PATH_INFO: /admin/"])
def test_header_cannot_replace_the_path(web, header):
    with web.connect() as client:
        client.send(f"GET /healthz HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n")

        assert client.response()[0] == 200


def test_one_connection_serves_several_requests(web):
    with web.connect() as client:
        for _ in range(3):
            client.send("GET /favicon.ico HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.response()[0] == 302


# --- the end


def test_stopping_process_finishes_its_request_and_closes_idle_connections(tmp_path):
    with (
        _pipe(tmp_path / "begun") as begun,
        _pipe(tmp_path / "answer") as answer,
        running(
            command("caravel.tests.support.waiting_app"),
            {**environment(), "BEGUN": begun.name, "ANSWER": answer.name},
            tmp_path / "web.log",
        ) as server,
        server.connect() as busy,
        server.connect() as idle,
    ):
        busy.send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert select([begun], [], [], LIMIT)[0]

        server.process.send_signal(signal.SIGTERM)
        assert idle.is_closed()
        wait_until(lambda: _refuses(server))
        answer.write(b"done")

        assert busy.response() == (200, b"done")
        assert busy.is_closed()


def _pipe(path: Path) -> FileIO:
    """Create a named pipe and open both ends: neither process waits for the other."""
    os.mkfifo(path)
    return path.open("r+b", buffering=0)


def _refuses(server: WebServer) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    return False


def test_every_way_to_start_uses_this_server():
    root = Path(__file__).resolve().parents[2]
    for name in (
        "Procfile",
        "Dockerfile",
        "docker-compose.yml",
        "sandbox/demo/system.py",
    ):
        assert "caravel.web_server.Worker" in (root / name).read_text(), name
