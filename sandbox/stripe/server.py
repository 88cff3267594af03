"""The sandbox on a socket: HTTP/1.1 on loopback, one thread per connection."""

import logging
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from sandbox.stripe import pages
from sandbox.stripe.app import StripeApp
from sandbox.stripe.control import PREFIX
from sandbox.stripe.protocol.http import Request, Response, json_response

logger = logging.getLogger(__name__)
TICK = 1.0
# Closing a socket with a linger time of zero sends RST instead of FIN.
LINGER = (socket.SOL_SOCKET, socket.SO_LINGER)
ABORT = struct.pack("ii", 1, 0)


class Handler(BaseHTTPRequestHandler):
    """Carries requests to the app and its responses back."""

    protocol_version = "HTTP/1.1"
    server_version = "sandbox-stripe"
    # Without this each answer waits some 40 ms for the client's ACK.
    disable_nagle_algorithm = True
    # Headers and body leave in one packet.
    wbufsize = -1
    server: "StripeServer"

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the app keeps its own log of requests."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            self.command,
            parts.path,
            parts.query,
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(length),
        )
        response = self._answer(request)
        if response.broken:
            self._break(response)
        else:
            self._send(response)

    def _answer(self, request: Request) -> Response:
        """Ask the app; only this machine may use the control interface."""
        local = ip_address(self.client_address[0]).is_loopback
        if pages.serves(request):
            return pages.handle(self.server.app, request, local=local)
        if request.path.startswith(PREFIX) and not local:
            return json_response(403, {"error": "control is for this machine only"})
        return self.server.app.handle(request)

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
    """Serves an app until it is stopped."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, app: StripeApp, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), Handler)
        self.app = app
        self._stopping = threading.Event()
        self._workers: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """The base address for an SDK."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        """Serve, deliver webhooks and keep time, each in a thread."""
        self.app.deliveries.start()
        for target in (self._serve, self._tick):
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
        """Close a connection; one that is to be reset without a FIN before."""
        if request.getsockopt(*LINGER, len(ABORT)) == ABORT:
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a client goes away before its answer."""

    def _serve(self) -> None:
        self.serve_forever(poll_interval=0.05)

    def _tick(self) -> None:
        while not self._stopping.wait(TICK):
            try:
                self.app.run_due(self.app.clock.now())
            except Exception:
                logger.exception("something due failed")
