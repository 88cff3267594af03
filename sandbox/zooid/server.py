"""API, control and page on a socket: HTTP/1.1 on loopback, a thread per connection."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sandbox.stripe import guard
from sandbox.stripe.protocol.bodies import read_body
from sandbox.stripe.protocol.errors import StripeError
from sandbox.stripe.protocol.http import Request, Response, json_response
from sandbox.stripe.server import ABORT, LINGER
from sandbox.zooid import control, page
from sandbox.zooid.api import Zooid
from sandbox.zooid.faults import Dripping


class CannotListen(Exception):
    """The port is taken, or not ours to take; the message names it."""


class Handler(BaseHTTPRequestHandler):
    """Carries requests to API, control or page, and their answers back."""

    protocol_version = "HTTP/1.1"
    server_version = "sandbox-zooid"
    # Without this each answer waits some 40 ms for the client's ACK.
    disable_nagle_algorithm = True
    server: "ZooidServer"

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the API keeps what was asked."""

    def _serve(self) -> None:
        try:
            request = self._request()
        except StripeError as error:
            # What is left unread makes the connection of no further use.
            self.close_connection = True
            self._send(json_response(400, {"error": str(error)}))
            return
        self._send(self._answer(request))

    def _request(self) -> Request:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        lengths = self.headers.get_all("Content-Length", [])
        encodings = self.headers.get_all("Transfer-Encoding", [])
        body = read_body(self.rfile, lengths, encodings)
        return Request(self.command, path, query, headers, body)

    def _answer(self, request: Request) -> Response:
        zooid = self.server.zooid
        objection = guard.denial_reason(request, self.client_address[0])
        if page.serves(request):
            return page.handle(zooid, request, objection)
        if request.path.startswith(control.PREFIX):
            return control.handle(zooid, request, objection)
        return zooid.handle(request)

    def _send(self, response: Response) -> None:
        if response.broken:
            self.close_connection = True
            self.connection.setsockopt(*LINGER, ABORT)
            return
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if isinstance(response, Dripping):
            self._drip(response)
        elif self.command != "HEAD":
            self.wfile.write(response.body)

    def _drip(self, response: Dripping) -> None:
        for place in range(len(response.body)):
            self.wfile.write(response.body[place : place + 1])
            if self.server.zooid.faults.hold(response.seconds):
                self.close_connection = True
                return


class ZooidServer(ThreadingHTTPServer):
    """Serves a zooid until it is shut down."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, zooid: Zooid, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.zooid = zooid
        zooid.url = f"http://127.0.0.1:{self.server_port}"

    def shutdown_request(self, request: Any) -> None:
        """Close a connection; one that is to be reset without a FIN before."""
        if request.getsockopt(*LINGER, len(ABORT)) == ABORT:
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when a client goes away before its answer."""


@contextmanager
def running_zooid(
    *, whitelist: Iterable[str] = (), port: int = 0, state: Path | None = None
) -> Iterator[Zooid]:
    """Serve on 127.0.0.1 for the length of the block; port 0 takes a free one.

    The public keys of the whitelist, in hex, may manage. With a state file relays and
    members come back. Raises CannotListen or UnreadableState.
    """
    zooid = Zooid(frozenset(whitelist), state)
    try:
        server = ZooidServer(zooid, port)
    except OSError as exc:
        why = os.strerror(exc.errno) if exc.errno else str(exc)
        raise CannotListen(
            f"sandbox zooid cannot listen on 127.0.0.1:{port}: {why}"
        ) from exc
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield zooid
    finally:
        zooid.clear_faults()
        server.shutdown()
        thread.join()
        server.server_close()
