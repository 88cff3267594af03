"""A client's connection to one relay (NIP-01), with reconnection."""

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import broadcast
from websockets.exceptions import WebSocketException

from sandbox.common.nostr import (
    Event,
    InvalidEvent,
    generate_secret_key,
    parse_event,
    sign_event,
)

logger = logging.getLogger(__name__)
#: Seconds between two attempts to connect.
RECONNECT_DELAY = 0.1
AUTH = 22242
DUPLICATE = "duplicate:"
Filter = dict[str, Any]
OnEvent = Callable[[Event], None]


class RelayLost(ConnectionError):
    """The relay is not connected, or disconnected before it answered."""


class RelayRefused(Exception):
    """The relay refused an event or closed a subscription."""


class RelayConnection:
    """One connection, for the thread of one event loop.

    `on_connect` is called after each connect; `on_event` gets the events of
    subscriptions. `timeout` is in seconds, for each answer. Authenticates with a random
    key if the relay requires one (NIP-42).
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float,
        on_event: OnEvent,
        on_connect: Callable[[], Awaitable[None]],
    ) -> None:
        self.url = url
        self.lock = asyncio.Lock()
        self.ready = asyncio.Event()
        self._timeout = timeout
        self._on_event = on_event
        self._on_connect = on_connect
        self._key = generate_secret_key()
        self._authenticated = asyncio.Event()
        self._closed = False
        self._numbers = itertools.count()
        self._socket: ClientConnection | None = None
        self._published: set[str] = set()
        self._filters: dict[str, list[Filter]] = {}
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._collecting: dict[str, OnEvent] = {}

    async def run(self) -> None:
        """Stay connected until closed."""
        while not self._closed:
            try:
                await self._connect()
            except* (OSError, WebSocketException, RelayRefused) as group:
                logger.debug("relay %s lost: %r", self.url, group.exceptions)
            await asyncio.sleep(RECONNECT_DELAY)

    def close(self) -> None:
        """Make `run` end once it is cancelled."""
        # A task group swallows the cancellation if one of its tasks fails just then.
        self._closed = True

    def hang_up(self) -> None:
        """Drop the connection, so that it is established again."""
        if self._socket is not None:
            self._socket.transport.abort()

    def send(self, *message: Any) -> None:
        """Send a message without waiting for an answer; dropped if disconnected."""
        if self._socket is not None:
            # Unlike send(), broadcast() does not wait, which keeps messages in order.
            broadcast((self._socket,), json.dumps(message))

    async def subscribe(self, name: str, filters: list[Filter]) -> None:
        """Replace the subscription with this name; no filters close it.

        Raises RelayLost, RelayRefused or TimeoutError, as the methods below.
        """
        if self._filters.get(name, []) == filters:
            return
        self._filters.pop(name, None)
        if filters:
            await self._send_with_auth(name, "REQ", name, *filters)
        else:
            self.send("CLOSE", name)
        self._filters[name] = filters

    async def fetch(self, filters: list[Filter]) -> list[Event]:
        """Return the stored events that match, oldest first."""
        name, events = f"stored-{next(self._numbers)}", list[Event]()
        self._collecting[name] = events.append
        try:
            await self._send_with_auth(name, "REQ", name, *filters)
        finally:
            del self._collecting[name]
        self.send("CLOSE", name)
        return sorted(events, key=lambda event: event.created_at)

    async def publish(self, events: Sequence[Event]) -> None:
        """Publish the events that were not yet published on this connection."""
        new = [event for event in events if event.id not in self._published]
        await asyncio.gather(
            *(self._send_with_auth(event.id, "EVENT", event.to_dict()) for event in new)
        )
        self._published.update(event.id for event in new)

    async def _connect(self) -> None:
        async with connect(
            self.url,
            compression=None,
            max_size=None,
            open_timeout=self._timeout,
            proxy=None,
        ) as socket:
            self._socket = socket
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._handshake())
                    group.create_task(self._read(socket))
            finally:
                self._reset()

    async def _handshake(self) -> None:
        await self._on_connect()
        self.ready.set()

    async def _read(self, socket: ClientConnection) -> None:
        async for text in socket:
            self._handle(text)
        raise RelayLost("The relay closed the connection.")

    def _handle(self, text: str | bytes) -> None:
        """Handle a message; ignore a malformed one."""
        try:
            message = json.loads(text)
        except ValueError:
            return
        match message:
            case ["EVENT", str(name), data, *_]:
                self._handle_event(name, data)
            case ["EOSE", str(name), *_] | ["OK", str(name), True, *_]:
                self._resolve(name, None)
            # Some relays answer false to an event that they have.
            case ["OK", str(name), _, str(reason), *_] if reason.startswith(DUPLICATE):
                self._resolve(name, None)
            case ["OK", str(event_id), _, reason, *_]:
                self._resolve(event_id, RelayRefused(reason))
            case ["AUTH", str(challenge), *_]:
                self._authenticate(challenge)
            case ["CLOSED", str(name), reason, *_]:
                self._handle_closed(name, RelayRefused(reason))

    def _handle_event(self, name: str, data: object) -> None:
        try:
            event = parse_event(data)
        except InvalidEvent:
            logger.debug("relay %s sent an invalid event", self.url)
            return
        self._collecting.get(name, self._on_event)(event)

    def _handle_closed(self, name: str, refused: RelayRefused) -> None:
        if not self._resolve(name, refused) and self._filters.get(name):
            # No more events would arrive: reconnect, which subscribes again.
            raise refused

    def _authenticate(self, challenge: str) -> None:
        tags = [["relay", self.url], ["challenge", challenge]]
        event = sign_event(self._key, kind=AUTH, content="", tags=tags)
        accepted = self._expect_answer(event.id)
        accepted.add_done_callback(
            lambda answer: None if answer.exception() else self._authenticated.set()
        )
        self.send("AUTH", event.to_dict())

    async def _send_with_auth(self, key: str, *message: Any) -> None:
        try:
            await self._send_and_wait(key, *message)
        except RelayRefused as refused:
            if not str(refused).startswith("auth-required:"):
                raise
            async with asyncio.timeout(self._timeout):
                await self._authenticated.wait()
            await self._send_and_wait(key, *message)

    async def _send_and_wait(self, key: str, *message: Any) -> None:
        if self._socket is None:
            raise RelayLost("The relay is not connected.")
        answer = self._expect_answer(key)
        try:
            self.send(*message)
            async with asyncio.timeout(self._timeout):
                await answer
        finally:
            self._waiting.pop(key, None)

    def _expect_answer(self, key: str) -> "asyncio.Future[None]":
        self._waiting[key] = asyncio.get_running_loop().create_future()
        return self._waiting[key]

    def _resolve(self, key: str, refused: RelayRefused | None) -> bool:
        """Settle a pending answer; return whether there was one."""
        answer = self._waiting.pop(key, None)
        if answer is None or answer.done():
            return False
        if refused is None:
            answer.set_result(None)
        else:
            answer.set_exception(refused)
        return True

    def _reset(self) -> None:
        # The relay may have lost everything: subscribe and publish again.
        self.ready.clear()
        self._authenticated.clear()
        self._socket = None
        self._published.clear()
        self._filters.clear()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(RelayLost("The relay went away."))
