"""HTTP server of the stand-ins: uvicorn in a thread, on loopback.

A handler runs in the event loop; the blocking calls that it yields run in threads.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import (
    WebSocketsSansIOProtocol,
)
from websockets.http11 import Request as Handshake

from sandbox.common.http import Request, Response, Steps, json_response
from sandbox.common.transport import break_connection
from sandbox.common.websocket import Receive, Send, WebSocket

MAX_BODY_BYTES = 1024 * 1024
MAX_DRAINED_BYTES = 16 * MAX_BODY_BYTES
# Requests that are delayed by faults occupy a thread each.
MAX_THREADS = 256
# Seconds that responses under way have when the server stops.
GRACE = 1.0

Result = TypeVar("Result")
Scope = MutableMapping[str, Any]


class CannotListen(Exception):
    """The port is taken or not permitted; the message names it."""

    @classmethod
    def from_error(
        cls, error: OSError, name: str, host: str, port: int
    ) -> "CannotListen":
        reason = os.strerror(error.errno) if error.errno else str(error)
        return cls(f"sandbox {name} cannot listen on {host}:{port}: {reason}")


class Unreadable(Exception):
    """The body of a request is incomplete or too large."""


class Protocol(HttpToolsProtocol):
    """HTTP protocol that passes its transport to the app."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"transport": {"transport": self.transport}}


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket protocol that passes its transport to the app."""

    def handle_connect(self, event: Handshake) -> None:
        super().handle_connect(event)
        # Missing after a handshake that is not valid: the app is not called then.
        if not self.handshake_complete:
            self.scope["extensions"]["transport"] = {"transport": self.transport}


class Uvicorn(uvicorn.Server):
    """Server that stops at once; uvicorn's own looks ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ready = threading.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)  # sets the default headers
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._stopped.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await _accept_no_more(self.servers)
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if tasks := self.server_state.tasks:
            await asyncio.wait(tasks, timeout=GRACE)

    def stop(self) -> None:
        """Stop a server that was started in another thread."""
        self._ready.wait()
        self._loop.call_soon_threadsafe(self._stopped.set)


async def _accept_no_more(servers: Iterable[asyncio.Server]) -> None:
    """Stop accepting, after finishing the connections just accepted.

    asyncio attaches an accepted socket to the server some loop iterations later. If the
    server is closed by then, the socket leaks and its client waits.
    """
    loop = asyncio.get_running_loop()
    for server in servers:
        for sock in server.sockets:
            loop.remove_reader(sock.fileno())
    for _ in range(3):
        await asyncio.sleep(0)


class Server:
    """Server of one handler; `start` and `stop` control its thread."""

    def __init__(
        self,
        handle: Callable[[Request], Steps],
        port: int = 0,
        *,
        name: str,
        host: str = "127.0.0.1",
        serve_websocket: Callable[[WebSocket], Awaitable[None]] | None = None,
        max_message_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        """Bind the socket; port 0 is a free one. Raises CannotListen."""
        self._handle = handle
        self._serve_websocket = serve_websocket
        try:
            self._socket = socket.create_server((host, port), backlog=128)
        except OSError as exc:
            raise CannotListen.from_error(exc, name, host, port) from exc
        # Nagle's algorithm delays each response by some 40 ms, until the client's ACK.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        self._threads = ThreadPoolExecutor(MAX_THREADS, name)
        config = uvicorn.Config(
            self._respond,
            http=Protocol,
            ws=WebSocketProtocol if serve_websocket else "none",
            ws_max_size=max_message_bytes,
            ws_per_message_deflate=False,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            headers=[("Server", f"sandbox-{name}")],
            # Longer than any client keeps an idle connection.
            timeout_keep_alive=3600,
        )
        self._server = Uvicorn(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), daemon=True
        )

    def start(self) -> None:
        """Start serving; connections made before that have been waiting."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and end all connections."""
        self._server.stop()
        self._thread.join()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._socket.close()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport = scope["extensions"]["transport"]["transport"]
        if self._serve_websocket and scope["type"] == "websocket":
            request = _request(scope, method="GET")
            await self._serve_websocket(WebSocket(request, receive, send, transport))
            return
        try:
            request = await _read(scope, receive)
            response = await self._run(self._handle(request))
        except Unreadable as error:
            response = json_response(413, {"error": str(error)})
        if response.broken in ("reset", "closed"):
            break_connection(transport, reset=response.broken == "reset")
            # uvicorn reports an app that ends before the connection without a response.
            await receive()
        elif response.broken == "truncated":
            await _send(send, response, len(response.body) // 2)
            transport.close()
        elif response.wait is not None:
            await _send_slowly(send, response, partial(self._call, response.wait))
            transport.close()
        else:
            await _send(send, response)

    async def _run(self, steps: Steps) -> Response:
        try:
            while True:
                step = next(steps)
                if isinstance(step, float):
                    await asyncio.sleep(step)
                else:
                    await self._call(step)
        except StopIteration as end:
            response: Response = end.value
            return response

    async def _call(self, function: Callable[[], Result]) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serve for the length of the block."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def _read(scope: Scope, receive: Receive) -> Request:
    body, size, more = b"", 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Unreadable("The body of this request is incomplete.")
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        # A body that is too large is read to its end: closing the connection with
        # unread input sends RST, which can discard the response.
        body = body + part if size <= MAX_BODY_BYTES else b""
        if size > MAX_DRAINED_BYTES:
            break
    if size > MAX_BODY_BYTES:
        raise Unreadable(f"A request body can have at most {MAX_BODY_BYTES} bytes.")
    return _request(scope, method=scope["method"], body=body)


def _request(scope: Scope, *, method: str, body: bytes = b"") -> Request:
    return Request(
        method,
        scope["raw_path"].decode("latin-1"),
        scope["query_string"].decode("latin-1"),
        {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]},
        body,
        scope["client"][0] if scope["client"] else "",
    )


async def _start(send: Send, response: Response) -> None:
    headers = {"Content-Length": str(len(response.body)), **response.headers}
    pairs = [(k.encode(), v.encode()) for k, v in headers.items() if v is not None]
    start = {"type": "http.response.start", "status": response.status}
    await send({**start, "headers": pairs})


async def _send(send: Send, response: Response, length: int | None = None) -> None:
    await _start(send, response)
    body, more = response.body[:length], length is not None
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _send_slowly(
    send: Send, response: Response, wait: Callable[[], Awaitable[bool]]
) -> None:
    await _start(send, response)
    for index in range(len(response.body)):
        byte = response.body[index : index + 1]
        await send({"type": "http.response.body", "body": byte, "more_body": True})
        if await wait():
            return
