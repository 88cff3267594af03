"""HTTP/1.1 server of the sandbox on loopback, one thread per connection."""

import logging
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sandbox.common import access
from sandbox.common.http import Request, Response
from sandbox.common.request_body import MAX_BODY_BYTES, read_body, unreadable
from sandbox.stripe import pages
from sandbox.stripe.api.errors import StripeError
from sandbox.stripe.app import StripeApp
from sandbox.stripe.control import routes

logger = logging.getLogger(__name__)
TIMER_INTERVAL = 1.0
MAX_DRAINED_BYTES = 16 * MAX_BODY_BYTES
DRAIN_TIMEOUT = 0.5
# SO_LINGER with a time of zero: closing the socket sends RST instead of FIN.
LINGER = (socket.SOL_SOCKET, socket.SO_LINGER)
ABORT = struct.pack("ii", 1, 0)


class Handler(BaseHTTPRequestHandler):
    """Handler of one connection: passes requests to the app."""

    protocol_version = "HTTP/1.1"
    server_version = "sandbox-stripe"
    # With Nagle's algorithm each response waits about 40 ms for the client's ACK.
    disable_nagle_algorithm = True
    # Buffered, so that headers and body leave in one packet.
    wbufsize = -1
    server: "StripeServer"

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_OPTIONS(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the app has its own request log."""

    def send_error(
        self, code: int, message: str | None = None, explain: str | None = None
    ) -> None:
        """Send a Stripe error for a request that could not be parsed."""
        # After a malformed request line the version is 0.9, which has no status line.
        self.request_version = self.protocol_version
        request = Request(self.command or "", getattr(self, "path", ""))
        self._refuse(request, unreadable(message or "Malformed request.", code))

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers)
        try:
            request = replace(request, body=self._body())
        except StripeError as error:
            self._refuse(request, error)
            return
        response = self._respond(request)
        if response.broken:
            self._break(response)
        else:
            self._send(response)

    def _body(self) -> bytes:
        lengths = self.headers.get_all("Content-Length", [])
        encodings = self.headers.get_all("Transfer-Encoding", [])
        return read_body(self.rfile, lengths, encodings)

    def _respond(self, request: Request) -> Response:
        """Pass the request to the pages, the control API or the API."""
        denial = access.denial_reason(request, self.client_address[0])
        if pages.serves(request):
            return pages.handle(self.server.app, request, denial)
        if routes.serves(request):
            return routes.handle(self.server.app, request, denial)
        return self.server.app.handle(request)

    def _refuse(self, request: Request, error: StripeError) -> None:
        """Send an error for an unreadable request and close the connection."""
        self.close_connection = True
        self._send(self.server.app.refuse(request, error))
        self.wfile.flush()
        # Closing with unread input sends RST, which can discard the response.
        self.connection.settimeout(DRAIN_TIMEOUT)
        with suppress(TimeoutError):
            self.rfile.read(MAX_DRAINED_BYTES)

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def _break(self, response: Response) -> None:
        self.close_connection = True
        if response.broken == "reset":
            self.connection.setsockopt(*LINGER, ABORT)


class StripeServer(ThreadingHTTPServer):
    """Server of an app; `start` and `stop` control its threads."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, app: StripeApp, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), Handler)
        self.app = app
        app.public_url = self.url
        self._stopping = threading.Event()
        self._workers: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Base URL for an SDK."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        """Start threads that serve requests, deliver webhooks and run timers."""
        self.app.deliveries.start()
        for target in (self._serve, self._run_timers):
            thread = threading.Thread(target=target, daemon=True)
            thread.start()
            self._workers.append(thread)

    def stop(self) -> None:
        """Stop serving and close the app."""
        self._stopping.set()
        self.shutdown()
        for thread in self._workers:
            thread.join()
        self.server_close()
        self.app.close()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, without a FIN when it is to be reset."""
        if request.getsockopt(*LINGER, len(ABORT)) == ABORT:
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect before the response."""

    def _serve(self) -> None:
        self.serve_forever(poll_interval=0.05)

    def _run_timers(self) -> None:
        while not self._stopping.wait(TIMER_INTERVAL):
            try:
                self.app.run_due(self.app.clock.now())
            except Exception:
                logger.exception("a timer failed")
