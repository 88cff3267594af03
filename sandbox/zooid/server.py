"""Relays, API, control and page over HTTP on loopback."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sandbox.common import control
from sandbox.common.access import is_local
from sandbox.common.http import Request, Steps, in_thread
from sandbox.common.server import CannotListen, Server, serving
from sandbox.zooid import page
from sandbox.zooid.control import COMMANDS
from sandbox.zooid.zooid import Zooid

__all__ = ["CannotListen", "respond", "running_zooid"]


def respond(zooid: Zooid, request: Request) -> Steps:
    """Pass the request to the page, the control API, the API or a relay."""
    if zooid.find(request.headers.get("host", "")) is None:
        if page.serves(request) and is_local(request):
            return in_thread(page.handle, zooid, request)
        if request.path.startswith(control.PREFIX):
            return in_thread(control.handle, zooid, COMMANDS, request)
    return zooid.respond(request)


@contextmanager
def running_zooid(
    *, whitelist: Iterable[str] = (), port: int = 0, state: Path | None = None
) -> Iterator[Zooid]:
    """Serve on 127.0.0.1 for the length of the block; port 0 is a free port.

    The hex public keys of the whitelist may manage relays. A state file restores relays
    and members. Raises CannotListen or UnreadableState.
    """
    zooid = Zooid(frozenset(whitelist), state)
    server = Server(partial(respond, zooid), port, name="zooid")
    zooid.url = server.url
    with serving(server):
        try:
            yield zooid
        finally:
            zooid.clear_faults()
