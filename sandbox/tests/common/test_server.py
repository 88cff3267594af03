"""The server of the stand-ins when it stops under load."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from sandbox.common.http import Response, in_thread
from sandbox.common.server import Server

CLIENTS = 4
# Without care, every other stop leaves a connection behind that nobody serves.
STOPS = 15


def request_until(stopped: threading.Event, url: str) -> None:
    """Request with a new connection each, until the server is stopped."""
    while not stopped.is_set():
        try:
            requests.get(url, timeout=10)
        except requests.ReadTimeout:
            raise
        except requests.RequestException:
            continue


@pytest.mark.parametrize("stop", range(STOPS))
def test_stopping_server_leaves_no_client_without_an_end(stop):
    server = Server(lambda request: in_thread(Response, 200), name="test")
    server.start()
    stopped = threading.Event()

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [
            pool.submit(request_until, stopped, server.url) for _ in range(CLIENTS)
        ]
        for _ in range(CLIENTS):
            requests.get(server.url, timeout=10)
        server.stop()
        stopped.set()

    for client in clients:
        client.result()
