"""The listening socket of a relay and its connections."""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import Any, cast
from weakref import WeakSet

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from sandbox.nostr.relay_core import RelayCore
from sandbox.nostr.session import Session

logger = logging.getLogger(__name__)
# websockets logs protocol errors of clients as errors with tracebacks.
_client_errors = logging.getLogger(f"{__name__}.client_errors")
_client_errors.setLevel(logging.CRITICAL)
# Seconds for the closing handshake.
CLOSE_TIMEOUT = 2.0


class _Connection(ServerConnection):
    """A connection that is registered from its first byte on.

    The server itself does not list connections in their opening handshake.
    """

    def __init__(
        self, connections: "WeakSet[_Connection]", *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)
        if not self.server.is_serving():
            self.transport.abort()


class Listener:
    """Accepts connections for a relay core; use it on the relay's event loop only."""

    def __init__(self, core: RelayCore) -> None:
        self._core = core
        self._server: Server | None = None
        self._connections: WeakSet[_Connection] = WeakSet()

    @property
    def is_open(self) -> bool:
        return self._server is not None

    async def open(self, host: str, port: int) -> int:
        """Start listening, unless it already does; return the port. Raises OSError."""
        if self._server is None:
            create = partial(_Connection, self._connections)
            self._server = await serve(
                self._handle,
                host,
                port,
                compression=None,
                max_size=self._core.settings.max_message_bytes,
                close_timeout=CLOSE_TIMEOUT,
                logger=_client_errors,
                create_connection=cast(type[ServerConnection], create),
            )
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and abort all connections without a closing handshake."""
        server, self._server = self._server, None
        if server is not None:
            await _accept_no_more(server)
            server.close(close_connections=False)
            self.drop()
            await server.wait_closed()

    def drop(self) -> None:
        """Abort all connections."""
        for wire in list(self._connections):
            wire.transport.abort()

    async def _handle(self, connection: ServerConnection) -> None:
        session = Session(self._core, connection)
        session.open()
        try:
            with suppress(ConnectionClosed):
                async for message in connection:
                    session.receive(message)
        except Exception:
            logger.exception("a message could not be handled")
            raise
        finally:
            session.close()


async def _accept_no_more(server: Server) -> None:
    """Stop accepting, after finishing the connections just accepted.

    asyncio attaches an accepted socket to the server one loop iteration later. If the
    server is closed by then, that fails and the socket leaks.
    """
    loop = asyncio.get_running_loop()
    for sock in server.sockets:
        loop.remove_reader(sock.fileno())
    await asyncio.sleep(0)
