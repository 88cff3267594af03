"""Relays, API, control and page over HTTP on loopback."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from sandbox.common import control
from sandbox.common.access import is_local
from sandbox.common.http import Request, Steps, in_thread
from sandbox.common.server import CannotListen, Server
from sandbox.zooid import answers, page
from sandbox.zooid.control import COMMANDS
from sandbox.zooid.relays.nip11 import is_asked
from sandbox.zooid.relays.session import MAX_MESSAGE_BYTES
from sandbox.zooid.zooid import Zooid

__all__ = ["CannotListen", "respond", "running_zooid"]


def respond(zooid: Zooid, request: Request) -> Steps:
    """Pass the request to the page, the control API, or to the API or a relay."""
    if zooid.find(request.headers.get("host", "")) is None:
        if page.serves(request) and _is_for_us(request):
            return in_thread(page.handle, zooid, request)
        if request.path.startswith(control.PREFIX):
            return in_thread(control.handle, zooid, COMMANDS, request)
    return answers.respond(zooid, request)


def _is_for_us(request: Request) -> bool:
    """Return whether a request is for zooid itself, not for one of its relays.

    Browsers find any name under localhost on this machine: such a name is a relay's.
    """
    name = request.headers.get("host", "").rpartition(":")[0]
    is_relays = name.endswith(".localhost")
    return is_local(request) and not is_relays and not is_asked(request)


@contextmanager
def running_zooid(
    *,
    whitelist: Iterable[str] = (),
    port: int = 0,
    state: Path | None = None,
    on_panic: Callable[[str], None] = lambda reason: None,
) -> Iterator[Zooid]:
    """Serve on 127.0.0.1 for the length of the block; port 0 is a free port.

    The hex public keys of the whitelist may manage relays. A state file restores
    relays, members and events. Raises CannotListen, UnreadableState or Panic.
    """
    zooid = Zooid(frozenset(whitelist), state, on_panic)
    zooid.listener = _Listener(zooid, port)
    zooid.start()
    try:
        yield zooid
    finally:
        zooid.clear_faults()
        zooid.stop()


class _Listener:
    """The socket of a zooid, at the same port each time it is opened."""

    def __init__(self, zooid: Zooid, port: int) -> None:
        """Bind the socket. Raises CannotListen."""
        self._zooid = zooid
        self._server: Server | None = self._bind(port)
        self._port = self._server.port
        self.url = self._server.url

    def open(self) -> None:
        """Accept connections. Raises CannotListen."""
        self._server = self._server or self._bind(self._port)
        self._server.start()

    def close(self) -> None:
        """End all connections."""
        server, self._server = self._server, None
        if server:
            server.stop()

    def _bind(self, port: int) -> Server:
        return Server(
            partial(respond, self._zooid),
            port,
            name="zooid",
            serve_websocket=partial(answers.serve_websocket, self._zooid),
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
