"""API, control and page over HTTP on loopback."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sandbox.common import access
from sandbox.common.http import Request, Response, in_thread
from sandbox.common.server import CannotListen, Server, serving
from sandbox.zooid import control, page
from sandbox.zooid.api import Zooid

__all__ = ["CannotListen", "handle", "running_zooid"]


def handle(zooid: Zooid, request: Request) -> Response:
    """Pass the request to the page, the control API or the API."""
    denial_reason = access.denial_reason(request)
    if page.serves(request):
        return page.handle(zooid, request, denial_reason)
    if request.path.startswith(control.PREFIX):
        return control.handle(zooid, request, denial_reason)
    return zooid.handle(request)


@contextmanager
def running_zooid(
    *, whitelist: Iterable[str] = (), port: int = 0, state: Path | None = None
) -> Iterator[Zooid]:
    """Serve on 127.0.0.1 for the length of the block; port 0 is a free port.

    The hex public keys of the whitelist may manage relays. A state file restores relays
    and members. Raises CannotListen or UnreadableState.
    """
    zooid = Zooid(frozenset(whitelist), state)
    server = Server(partial(in_thread, handle, zooid), port, name="zooid")
    zooid.url = server.url
    with serving(server):
        try:
            yield zooid
        finally:
            zooid.clear_faults()
