"""The price sources over HTTP/1.1 on loopback, one thread per connection."""

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from sandbox.prices.feed import Answer, PriceFeed

_PATH = re.compile(r"/prices/(\w+)/(\w+)")
# Closing a socket with a linger time of zero sends RST instead of FIN, see socket(7).
_ABORT = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Handler(BaseHTTPRequestHandler):
    """Passes requests to the feed and sends its answers."""

    protocol_version = "HTTP/1.1"
    server_version = "sandbox-prices"
    # Nagle's algorithm delays each response by some 40 ms, until the client's ACK.
    disable_nagle_algorithm = True
    server: "PriceServer"

    def do_GET(self) -> None:
        match = _PATH.fullmatch(self.path)
        if match is None:
            self.send_error(404)
            return
        answer = self.server.feed.answer(*match.groups())
        kind = answer.fault.kind if answer.fault else None
        if kind == "reset":
            self._reset()
            return
        if answer.fault and kind == "slow":
            answer.cleared.wait(answer.fault.seconds)
        self._send_headers(answer)
        if answer.fault and kind == "drip":
            self._send_slowly(answer, answer.fault.seconds)
        else:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the feed records the requests."""

    def _send_headers(self, answer: Answer) -> None:
        headers = {
            "Date": self.date_time_string(),
            "Content-Type": answer.type,
            "Content-Length": str(len(answer.body)),
            **answer.headers,
        }
        self.send_response_only(answer.status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def _send_slowly(self, answer: Answer, seconds: float) -> None:
        for index in range(len(answer.body)):
            self.wfile.write(answer.body[index : index + 1])
            if answer.cleared.wait(seconds):
                self.close_connection = True
                return

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(*_ABORT)


class PriceServer(ThreadingHTTPServer):
    """Serves a feed until it is shut down."""

    daemon_threads = True
    request_queue_size = 128
    handler: type[BaseHTTPRequestHandler] = Handler

    def __init__(self, feed: PriceFeed, port: int) -> None:
        super().__init__(("127.0.0.1", port), self.handler)
        self.feed = feed
        feed.url = f"http://127.0.0.1:{self.server_port}"

    def shutdown_request(self, request: Any) -> None:
        """Close a connection; one that is to be reset gets no FIN first."""
        level, option, value = _ABORT
        if request.getsockopt(level, option, len(value)) == value:
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect before the response."""


Server = TypeVar("Server", bound=PriceServer)


@contextmanager
def running_prices(*, port: int = 0) -> Iterator[PriceFeed]:
    """Serve the sources on 127.0.0.1 for the length of the block; 0: a free port."""
    with serving(PriceServer(PriceFeed(), port)) as server:
        yield server.feed


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Run a server for the length of the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.feed.clear_faults()
        server.shutdown()
        thread.join()
        server.server_close()
