"""HTTP/1.1 server of the page, the control API and the price sources, on loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sandbox.common import access
from sandbox.common.http import Request, Response, json_response
from sandbox.common.request_body import read_body
from sandbox.lightning import control, pages
from sandbox.prices import server as prices
from sandbox.stripe.api.errors import StripeError

if TYPE_CHECKING:
    from sandbox.lightning.stack import Lightning


class Handler(prices.Handler):
    """Routes `/prices/` to the price sources, the rest to page or control API."""

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
            # The unread rest of the body would be taken for the next request.
            self.close_connection = True
            self._send(json_response(error.status, {"error": str(error)}))
            return
        denial_reason = access.denial_reason(request, self.client_address[0])
        handle = (
            control.handle if request.path.startswith(control.PREFIX) else pages.handle
        )
        self._send(handle(self.server.lightning, request, denial_reason))

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
    """Server of the price feed, the page and the control API."""

    handler = Handler

    def __init__(self, lightning: "Lightning", port: int) -> None:
        super().__init__(lightning.prices, port)
        self.lightning = lightning


@contextmanager
def serving(lightning: "Lightning", port: int) -> Iterator[None]:
    """Serve for the length of the block. Raises OSError if the port is taken."""
    with prices.serving(LightningServer(lightning, port)):
        yield
