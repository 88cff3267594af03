"""A client's connection to one relay (NIP-01), made anew after each loss."""

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from caravel.nostr.events import Event, InvalidEvent, parse_event

logger = logging.getLogger(__name__)
#: Seconds between two attempts to connect, and for which an answer is waited for.
PAUSE = 0.1
PATIENCE = 5.0
Filter = dict[str, Any]
Hear = Callable[[Event], None]


class RelayLost(ConnectionError):
    """The relay is not connected, or went away before it answered."""


class RelayRefused(Exception):
    """The relay does not take an event, or ended a subscription."""


class Link:
    """One connection, for the thread of one loop.

    `greet` is called after each connecting; `hear` gets the events of subscriptions.
    """

    def __init__(
        self, url: str, *, hear: Hear, greet: Callable[["Link"], Awaitable[None]]
    ) -> None:
        self.url = url
        self.lock = asyncio.Lock()
        self.greeted = asyncio.Event()
        self._hear = hear
        self._greet = greet
        self._numbers = itertools.count()
        self._outbox: asyncio.Queue[str] | None = None
        self._published: set[str] = set()
        self._filters: dict[str, list[Filter]] = {}
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._collecting: dict[str, Hear] = {}

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                await self._connect()
            except* (OSError, WebSocketException, RelayRefused) as group:
                logger.debug("relay %s lost: %r", self.url, group.exceptions)
            await asyncio.sleep(PAUSE)

    @property
    def connected(self) -> bool:
        """Whether there is a relay at the other end."""
        return self._outbox is not None

    def send(self, *message: Any) -> None:
        """Send a message without waiting for an answer; a lost relay gets none."""
        if self._outbox is not None:
            self._outbox.put_nowait(json.dumps(message))

    async def subscribe(self, name: str, filters: list[Filter]) -> None:
        """Let `hear` have what matches, in place of an earlier subscription.

        No filters end it. Raises RelayLost, RelayRefused or TimeoutError, as all below.
        """
        if self._filters.get(name, []) == filters:
            return
        if filters:
            await self._answer(name, "REQ", name, *filters)
        else:
            self.send("CLOSE", name)
        self._filters[name] = filters

    async def fetch(self, filters: list[Filter]) -> list[Event]:
        """Return what the relay stored, oldest first."""
        name, found = f"stored-{next(self._numbers)}", list[Event]()
        self._collecting[name] = found.append
        try:
            await self._answer(name, "REQ", name, *filters)
        finally:
            del self._collecting[name]
        self.send("CLOSE", name)
        return sorted(found, key=lambda event: event.created_at)

    async def publish(self, events: Sequence[Event]) -> None:
        """Publish the events that this relay was not yet given."""
        new = [event for event in events if event.id not in self._published]
        await asyncio.gather(
            *(self._answer(event.id, "EVENT", event.to_dict()) for event in new)
        )
        self._published.update(event.id for event in new)

    async def _connect(self) -> None:
        async with connect(
            self.url, compression=None, max_size=None, open_timeout=PATIENCE, proxy=None
        ) as socket:
            self._outbox = asyncio.Queue()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._write(socket, self._outbox))
                    group.create_task(self._read(socket))
                    group.create_task(self._introduce())
            finally:
                self._forget()

    async def _introduce(self) -> None:
        await self._greet(self)
        self.greeted.set()

    async def _write(
        self, socket: ClientConnection, outbox: asyncio.Queue[str]
    ) -> None:
        while True:
            await socket.send(await outbox.get())

    async def _read(self, socket: ClientConnection) -> None:
        async for text in socket:
            try:
                message = json.loads(text)
            except ValueError as exc:
                raise RelayLost("The relay does not speak JSON.") from exc
            self._take(message)
        raise RelayLost("The relay closed the connection.")

    def _take(self, message: list[Any]) -> None:
        if message[0] == "EVENT":
            self._take_event(message[1], message[2])
        elif message[0] == "EOSE":
            self._resolve(message[1], None)
        elif message[0] == "OK":
            refused = None if message[2] else RelayRefused(message[3])
            self._resolve(message[1], refused)
        elif message[0] == "CLOSED" and not self._resolve(
            message[1], RelayRefused(message[2])
        ):
            # Deaf from now on: a new connection subscribes again.
            raise RelayRefused(message[2])

    def _take_event(self, name: str, data: object) -> None:
        with suppress(InvalidEvent):  # a relay may pass on anything
            self._collecting.get(name, self._hear)(parse_event(data))

    async def _answer(self, key: str, *message: Any) -> None:
        if not self.connected:
            raise RelayLost("The relay is not connected.")
        answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            self.send(*message)
            async with asyncio.timeout(PATIENCE):
                await answer
        finally:
            self._waiting.pop(key, None)

    def _resolve(self, key: str, refused: RelayRefused | None) -> bool:
        """Return whether somebody waited for that answer."""
        answer = self._waiting.pop(key, None)
        if answer is None or answer.done():
            return False
        if refused is None:
            answer.set_result(None)
        else:
            answer.set_exception(refused)
        return True

    def _forget(self) -> None:
        self.greeted.clear()
        self._outbox = None
        self._published.clear()
        self._filters.clear()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(RelayLost("The relay went away."))
