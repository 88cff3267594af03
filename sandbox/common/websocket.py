"""WebSocket connections of the stand-ins' server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from sandbox.common.http import Request, Response
from sandbox.common.transport import break_connection

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class WebSocket:
    """A connection of a client; use it on the server's event loop only."""

    def __init__(
        self,
        request: Request,
        receive: Receive,
        send: Send,
        transport: asyncio.Transport,
    ) -> None:
        #: The opening handshake.
        self.request = request
        self._receive = receive
        self._send = send
        self._transport = transport

    async def accept(self) -> None:
        """Accept the handshake."""
        await self._receive()
        await self._send({"type": "websocket.accept"})

    async def reject(self, response: Response) -> None:
        """Answer the handshake with a response, or break the connection."""
        if response.broken:
            break_connection(self._transport, reset=response.broken == "reset")
            # uvicorn reports an app that ends before the connection.
            async for _ in self.messages():
                pass
            return
        await self._receive()
        headers = [(k.encode(), v.encode()) for k, v in response.headers.items()]
        start = {"status": response.status, "headers": headers}
        await self._send({"type": "websocket.http.response.start", **start})
        body = {"body": response.body}
        await self._send({"type": "websocket.http.response.body", **body})

    async def messages(self) -> AsyncIterator[str | bytes]:
        """Yield the client's messages until the connection ends."""
        while (message := await self._receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                text = message.get("text")
                yield message["bytes"] if text is None else text

    async def send(self, text: str) -> None:
        """Send a text message. Raises OSError once the client is gone."""
        await self._send({"type": "websocket.send", "text": text})

    def abort(self) -> None:
        """End the connection at once, without a closing handshake."""
        break_connection(self._transport, reset=True)
