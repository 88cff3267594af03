"""The price sources over HTTP on loopback."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from sandbox.common.http import Request, Response, in_thread, json_response
from sandbox.common.server import Server, serving
from sandbox.prices.feed import PriceFeed

_PATH = re.compile(r"/prices/(\w+)/(\w+)")


def handle(feed: PriceFeed, request: Request) -> Response:
    """Return a source's response, or a 404."""
    match = _PATH.fullmatch(request.path)
    if match is None or request.query or request.method != "GET":
        return json_response(404, {"error": "no such source"})
    return feed.respond(*match.groups())


@contextmanager
def running_prices(*, port: int = 0) -> Iterator[PriceFeed]:
    """Serve the sources on 127.0.0.1 for the length of the block; 0: a free port."""
    feed = PriceFeed()
    server = Server(partial(in_thread, handle, feed), port, name="prices")
    feed.url = server.url
    with serving(server):
        try:
            yield feed
        finally:
            feed.clear_faults()
