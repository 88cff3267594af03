"""API, control and page over HTTP/1.1 on loopback, one thread per connection."""

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sandbox.common import access
from sandbox.common.http import Request, Response, json_response
from sandbox.common.request_body import read_body
from sandbox.stripe.api.errors import StripeError
from sandbox.stripe.server import ABORT, LINGER
from sandbox.zooid import control, page
from sandbox.zooid.api import Zooid
from sandbox.zooid.faults import SlowBody


class CannotListen(Exception):
    """The port is taken or not permitted; the message names it."""


class Handler(BaseHTTPRequestHandler):
    """Routes requests to API, control or page, and sends their responses."""

    protocol_version = "HTTP/1.1"
    server_version = "sandbox-zooid"
    # Nagle's algorithm delays each response by some 40 ms, until the client's ACK.
    disable_nagle_algorithm = True
    server: "ZooidServer"

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the API records the requests."""

    def _serve(self) -> None:
        try:
            request = self._request()
        except StripeError as error:
            # The unread rest of the body would be taken for the next request.
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
        denial_reason = access.denial_reason(request, self.client_address[0])
        if page.serves(request):
            return page.handle(zooid, request, denial_reason)
        if request.path.startswith(control.PREFIX):
            return control.handle(zooid, request, denial_reason)
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
        if isinstance(response, SlowBody):
            self._send_slowly(response)
        elif self.command != "HEAD":
            self.wfile.write(response.body)

    def _send_slowly(self, response: SlowBody) -> None:
        for index in range(len(response.body)):
            self.wfile.write(response.body[index : index + 1])
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
        """Close a connection; one that is to be reset gets no FIN first."""
        if request.getsockopt(*LINGER, len(ABORT)) == ABORT:
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect before the response."""


@contextmanager
def running_zooid(
    *, whitelist: Iterable[str] = (), port: int = 0, state: Path | None = None
) -> Iterator[Zooid]:
    """Serve on 127.0.0.1 for the length of the block; port 0 is a free port.

    The hex public keys of the whitelist may manage relays. A state file restores relays
    and members. Raises CannotListen or UnreadableState.
    """
    zooid = Zooid(frozenset(whitelist), state)
    try:
        server = ZooidServer(zooid, port)
    except OSError as exc:
        reason = os.strerror(exc.errno) if exc.errno else str(exc)
        raise CannotListen(
            f"sandbox zooid cannot listen on 127.0.0.1:{port}: {reason}"
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
