"""A client's connection to one relay (NIP-01), with reconnection."""

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from sandbox.common.nostr import (
    Event,
    InvalidEvent,
    generate_secret_key,
    parse_event,
    sign_event,
)
from sandbox.common.secrets import track

logger = logging.getLogger(__name__)
#: Seconds between two attempts to connect.
RECONNECT_DELAY = 0.1
AUTH = 22242
#: The minimum number of values after the verb.
LENGTHS = {"EVENT": 2, "EOSE": 1, "OK": 3, "CLOSED": 2, "AUTH": 1}
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
        on_connect: Callable[["RelayConnection"], Awaitable[None]],
    ) -> None:
        self.url = url
        self.lock = asyncio.Lock()
        self.ready = asyncio.Event()
        self._timeout = timeout
        self._on_event = on_event
        self._on_connect = on_connect
        self._key = track(generate_secret_key())
        self._authenticated = asyncio.Event()
        self._closed = False
        self._numbers = itertools.count()
        self._socket: ClientConnection | None = None
        self._outbox: asyncio.Queue[str] | None = None
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

    @property
    def connected(self) -> bool:
        return self._outbox is not None

    def send(self, *message: Any) -> None:
        """Send a message without waiting for an answer; dropped if disconnected."""
        if self._outbox is not None:
            self._outbox.put_nowait(json.dumps(message))

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
            self._socket, self._outbox = socket, asyncio.Queue()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._handshake())
                    group.create_task(self._write(socket, self._outbox))
                    group.create_task(self._read(socket))
            finally:
                self._reset()

    async def _handshake(self) -> None:
        await self._on_connect(self)
        self.ready.set()

    async def _write(
        self, socket: ClientConnection, outbox: asyncio.Queue[str]
    ) -> None:
        while True:
            await socket.send(await outbox.get())

    async def _read(self, socket: ClientConnection) -> None:
        async for text in socket:
            self._handle(*_parse(text))
        raise RelayLost("The relay closed the connection.")

    def _handle(self, verb: str, *values: Any) -> None:
        if verb == "EVENT":
            self._handle_event(values[0], values[1])
        elif verb == "EOSE":
            self._resolve(values[0], None)
        elif verb == "OK":
            self._resolve(values[0], None if values[1] else RelayRefused(values[2]))
        elif verb == "AUTH":
            self._authenticate(values[0])
        elif verb == "CLOSED":
            self._handle_closed(values[0], RelayRefused(values[1]))

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
        if not self.connected:
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
        self._socket = self._outbox = None
        self._published.clear()
        self._filters.clear()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(RelayLost("The relay went away."))


def _parse(text: str | bytes) -> list[Any]:
    """Return a message, or [""] if it is malformed."""
    try:
        message = json.loads(text)
    except ValueError:
        message = None
    match message:
        case [str(verb), str(_), *_] if len(message) > LENGTHS.get(verb, len(message)):
            return list(message)
    return [""]
