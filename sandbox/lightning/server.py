"""Page, control and exchanges on one socket: HTTP/1.1 on loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sandbox.lightning import control, pages
from sandbox.prices import server as prices
from sandbox.stripe import guard
from sandbox.stripe.protocol.bodies import read_body
from sandbox.stripe.protocol.errors import StripeError
from sandbox.stripe.protocol.http import Request, Response, json_response

if TYPE_CHECKING:
    from sandbox.lightning.sandbox import Lightning


class Handler(prices.Handler):
    """Lets the exchanges answer for prices, and page or control for the rest."""

    server_version = "sandbox-lightning"
    server: "LightningServer"

    def do_GET(self) -> None:
        if self.path.startswith("/prices/"):
            super().do_GET()
        else:
            self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        try:
            request = self._request()
        except StripeError as error:
            # What is left unread makes the connection of no further use.
            self.close_connection = True
            self._send(json_response(error.status, {"error": str(error)}))
            return
        objection = guard.denial_reason(request, self.client_address[0])
        answer = control if request.path.startswith(control.PREFIX) else pages
        self._send(answer.handle(self.server.lightning, request, objection))

    def _request(self) -> Request:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        lengths = self.headers.get_all("Content-Length", [])
        encodings = self.headers.get_all("Transfer-Encoding", [])
        body = read_body(self.rfile, lengths, encodings)
        return Request(self.command, path, query, headers, body)

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)


class LightningServer(prices.PriceServer):
    """Serves the feed of prices, and what belongs to the rest of Lightning."""

    handler = Handler

    def __init__(self, lightning: "Lightning", port: int) -> None:
        super().__init__(lightning.prices, port)
        self.lightning = lightning


@contextmanager
def serving(lightning: "Lightning", port: int) -> Iterator[None]:
    """Serve for the length of the block. Raises OSError when the port is taken."""
    with prices.serving(LightningServer(lightning, port)):
        yield
