"""Webhook endpoints for tests, with and without a socket."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from caravel.tests.support.waiting import LIMIT, join


class Receiver:
    """In-process endpoint that replaces the HTTP request of deliveries.

    It responds with `statuses` first, then with the status for the URL or `always`. A
    status of 0 means that the endpoint cannot be reached.
    """

    def __init__(self):
        self.events = []
        self.statuses = []
        self.always = 200
        self.by_url = {}
        self._lock = threading.Lock()

    def __call__(self, url, body, headers):
        with self._lock:
            usual = self.by_url.get(url, self.always)
            status = self.statuses.pop(0) if self.statuses else usual
            if not status:
                raise ConnectionRefusedError
            self.events.append(json.loads(body))
        return status

    def names(self):
        """Return the name of the object in each event, in order of arrival."""
        return [event["data"]["object"].get("name") for event in self.events]

    def types(self):
        """Return the type of each event, in order of arrival."""
        return [event["type"] for event in self.events]


class HttpReceiver(ThreadingHTTPServer):
    """Endpoint on a socket that responds with `statuses` first, then with 200."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = []
        self.received = []
        self.arrived = threading.Condition()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/stripe/webhook"

    def wait_for(self, count):
        """Wait for `count` deliveries and return (body, signature) of each."""
        with self.arrived:
            has_arrived = self.arrived.wait_for(
                lambda: len(self.received) >= count, timeout=LIMIT
            )
            assert has_arrived, f"{len(self.received)} of {count} within {LIMIT:g} s"
            return list(self.received)


class _Handler(BaseHTTPRequestHandler):
    server: HttpReceiver

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.arrived:
            statuses = self.server.statuses
            self.send_response(statuses.pop(0) if statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.server.received.append((body, self.headers["Stripe-Signature"]))
            self.server.arrived.notify_all()

    def log_message(self, format, *args):
        pass


@contextmanager
def running_http_receiver() -> Iterator[HttpReceiver]:
    """Serve an HttpReceiver during the block."""
    server = HttpReceiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        join(thread)
        server.server_close()
