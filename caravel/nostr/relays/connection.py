"""Connection to one relay, shared by all users of the relay in the process.

It opens on first use. If it is lost while there are subscriptions, it reconnects and
repeats them. Events are never sent again.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from caravel.nostr.events import Event, sign_event
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable, dial

logger = structlog.get_logger(__name__)

Filter = dict[str, Any]
#: Seconds without a subscription after which a connection is closed.
IDLE_TIMEOUT = 120.0
#: Seconds before reconnecting or subscribing again: the first delay and the maximum.
_MIN_DELAY, _MAX_DELAY = 0.25, 30.0
_AUTH_KIND = 22242  # NIP-42
#: Share of the event loop's time for one relay's messages, seconds that it may use in
#: one burst, and the fixed cost of a message in seconds.
_TIME_SHARE, _BURST, _MESSAGE_COST = 0.2, 1.0, 0.00005


@dataclass(eq=False)
class Subscription:
    """Subscription at a relay; `on_event` is called with unverified events."""

    id: str
    filters: list[Filter]
    on_event: Callable[[object], None]
    #: True at EOSE, False at CLOSED or when the connection is lost.
    stored: "asyncio.Future[bool]"
    #: Number of CLOSED messages on this connection.
    refusals: int = 0
    #: True while a new REQ after CLOSED is scheduled.
    is_refused: bool = False
    secret_keys: list[str] = field(default_factory=list, repr=False)


class Connection:
    """Connection to one relay. All methods run in the pool's event loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._websocket: ClientConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._numbers = itertools.count(1)
        self._oks: dict[str, asyncio.Future[tuple[bool, str]]] = {}
        self._challenge = ""
        #: Used time of the event loop in seconds, and when it was last updated.
        self._used_time, self._used_time_at = 0.0, 0.0
        self.connect_count = 0

    @property
    def is_open(self) -> bool:
        return self._websocket is not None and self._websocket.state is State.OPEN

    @property
    def is_used(self) -> bool:
        """True if it is open or opening, has subscriptions, or waits for an OK."""
        is_opening = self._opening is not None and not self._opening.done()
        is_connected = is_opening or self._websocket is not None
        return is_connected or bool(self._subscriptions or self._oks)

    async def open(self) -> None:
        """Connect unless connected. Raises RelayUnreachable."""
        if self.is_open:
            return
        if self._websocket is not None:
            # The old websocket is closing: repeat its subscriptions on the new one.
            self._discard(self._websocket)
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
            # Retrieve the exception, or asyncio logs it if all callers were cancelled.
            self._opening.add_done_callback(lambda t: t.cancelled() or t.exception())
        # Callers share the attempt: cancelling one must not cancel it for the others.
        await asyncio.shield(self._opening)

    async def subscribe(
        self,
        filters: Iterable[Filter],
        on_event: Callable[[object], None],
        *,
        secret_keys: Iterable[str] = (),
    ) -> Subscription:
        """Subscribe until `unsubscribe`, also across reconnects.

        The secret keys are used if the relay requires authentication (NIP-42). Raises
        RelayUnreachable.
        """
        await self.open()
        subscription = Subscription(
            id=f"caravel-{next(self._numbers)}",
            filters=list(filters),
            on_event=on_event,
            stored=asyncio.get_running_loop().create_future(),
            secret_keys=list(dict.fromkeys(filter(None, secret_keys))),
        )
        self._subscriptions[subscription.id] = subscription
        self._cancel_closing()
        try:
            # If the connection is lost here, reconnecting repeats the request.
            with suppress(ConnectionLost):
                await self._request(subscription)
        except BaseException:
            self.unsubscribe(subscription)
            raise
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; sends CLOSE if connected."""
        if self._subscriptions.pop(subscription.id, None) is None:
            return
        if not subscription.stored.done():
            subscription.stored.set_result(False)
        if self.is_open:
            in_background(self._send(["CLOSE", subscription.id]))
        if not self._subscriptions:
            self._close_when_idle()

    async def publish(
        self,
        event: Event,
        *,
        secret_key: str = "",
        ready_check: Callable[[], None] = lambda: None,
    ) -> tuple[bool, str]:
        """Send an event once, and return the flag and the reason of the relay's OK.

        `ready_check` is called right before the event is sent, and can prevent that by
        raising. Raises RelayUnreachable if nothing was sent, ConnectionLost if the
        connection was lost before the OK.
        """
        accepted, reason = await self._publish(event, ready_check)
        # NIP-42: the relay has not accepted the event, so it may be sent again.
        if reason.startswith("auth-required:") and secret_key and self._challenge:
            await self._authenticate(secret_key)
            accepted, reason = await self._publish(event, ready_check)
        return accepted, reason

    async def close(self) -> None:
        """Close the connection without reconnecting."""
        for task in (self._opening, self._restoring):
            if task is not None:
                task.cancel()
        self._cancel_closing()
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            await websocket.close()
        if self._reader is not None:
            self._reader.cancel()
        self._fail_pending()

    # --- opening

    async def _open(self) -> None:
        self._websocket = websocket = await dial(self.endpoint)
        self.connect_count += 1
        self._challenge = ""
        self._reader = asyncio.create_task(self._read(websocket))
        if not self._subscriptions:
            self._close_when_idle()

    async def _read(self, websocket: ClientConnection) -> None:
        try:
            async for message in websocket:
                started_at = time.perf_counter()
                self._receive(message)
                elapsed = time.perf_counter() - started_at
                await self._yield_if_over_budget(elapsed + _MESSAGE_COST)
        except ConnectionClosed as exc:
            logger.debug("relay_closed", relay=self.endpoint.host, reason=str(exc))
        finally:
            self._discard(websocket)
            # After any error or cancellation the socket must not stay open.
            websocket.transport.abort()

    async def _yield_if_over_budget(self, seconds: float) -> None:
        """Stop reading for a while if this relay has used up its share of the loop."""
        # A leaky bucket. Meanwhile the relay's messages wait in its own socket.
        now = time.monotonic()
        leaked = (now - self._used_time_at) * _TIME_SHARE
        self._used_time = max(0.0, self._used_time - leaked) + seconds
        self._used_time_at = now
        if self._used_time > _BURST:
            await asyncio.sleep((self._used_time - _BURST) / _TIME_SHARE)

    def _discard(self, websocket: ClientConnection) -> None:
        """Handle the loss of a websocket, unless another one has replaced it."""
        if self._websocket is not websocket:
            return
        self._websocket = None
        self._fail_pending()
        is_restoring = self._restoring is not None and not self._restoring.done()
        if self._subscriptions and not is_restoring:
            self._restoring = asyncio.create_task(self._restore())

    async def _restore(self) -> None:
        """Reconnect, with growing delays, and repeat the subscriptions."""
        delay = _MIN_DELAY
        while self._subscriptions:
            await asyncio.sleep(delay)
            delay = min(delay * 2, _MAX_DELAY)
            with suppress(RelayUnreachable, ConnectionLost):
                await self.open()
                for subscription in list(self._subscriptions.values()):
                    subscription.refusals = 0
                    await self._request(subscription)
                return

    def _fail_pending(self) -> None:
        for subscription in self._subscriptions.values():
            if not subscription.stored.done():
                subscription.stored.set_result(False)
        for future in self._oks.values():
            if not future.done():
                future.set_exception(ConnectionLost(self.endpoint.host))
        self._oks.clear()

    def _cancel_closing(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def _close_when_idle(self) -> None:
        self._cancel_closing()
        loop = asyncio.get_running_loop()
        self._closing = loop.call_later(IDLE_TIMEOUT, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._oks:
            self._close_when_idle()
        elif not self._subscriptions and self._websocket is not None:
            in_background(self._websocket.close())

    # --- sending

    async def _request(self, subscription: Subscription) -> None:
        if subscription.id in self._subscriptions:
            await self._send(["REQ", subscription.id, *subscription.filters])

    async def _publish(
        self, event: Event, ready_check: Callable[[], None]
    ) -> tuple[bool, str]:
        await self.open()
        return await self._send_and_await_ok("EVENT", event, ready_check)

    async def _authenticate(self, secret_key: str) -> None:
        """Authenticate to the relay with a key (NIP-42)."""
        event = sign_event(
            secret_key,
            kind=_AUTH_KIND,
            content="",
            tags=[("relay", self.endpoint.url), ("challenge", self._challenge)],
        )
        await self._send_and_await_ok("AUTH", event, lambda: None)

    async def _send_and_await_ok(
        self, verb: str, event: Event, ready_check: Callable[[], None]
    ) -> tuple[bool, str]:
        new = asyncio.get_running_loop().create_future()
        ok = self._oks.setdefault(event.id, new)
        try:
            await self._send([verb, event.to_dict()], ready_check)
            return await asyncio.shield(ok)
        finally:
            self._oks.pop(event.id, None)

    async def _send(
        self, message: list[object], ready_check: Callable[[], None] = lambda: None
    ) -> None:
        websocket = self._websocket
        if websocket is None or websocket.state is not State.OPEN:
            raise RelayUnreachable(
                f"The relay {self.endpoint.host} closed the connection."
            )
        ready_check()
        try:
            await websocket.send(json.dumps(message, separators=(",", ":")))
        except ConnectionClosed as exc:
            raise ConnectionLost(self.endpoint.host) from exc

    # --- receiving

    def _receive(self, message: str | bytes) -> None:
        try:
            content = json.loads(message)
        except (ValueError, RecursionError):
            content = None
        match content:
            case ["EVENT", str(id), data]:
                if subscription := self._subscriptions.get(id):
                    subscription.on_event(data)
            case ["EOSE", str(id)]:
                self._on_stored(id, complete=True)
            case ["CLOSED", str(id), *reason]:
                self._on_closed(id, str(reason[0]) if reason else "")
            case ["OK", str(id), bool(accepted), *reason]:
                ok = self._oks.get(id)
                if ok is not None and not ok.done():
                    ok.set_result((accepted, str(reason[0]) if reason else ""))
            case ["AUTH", str(challenge)]:
                self._challenge = challenge

    def _on_stored(self, id: str, *, complete: bool) -> None:
        subscription = self._subscriptions.get(id)
        if subscription is not None and not subscription.stored.done():
            subscription.stored.set_result(complete)

    def _on_closed(self, id: str, reason: str) -> None:
        subscription = self._subscriptions.get(id)
        if subscription is None or subscription.is_refused:
            return
        logger.debug("subscription_closed", relay=self.endpoint.host, reason=reason)
        self._on_stored(id, complete=False)
        subscription.is_refused = True
        in_background(self._subscribe_again(subscription, reason))

    async def _subscribe_again(self, subscription: Subscription, reason: str) -> None:
        auth_required = reason.startswith("auth-required:") and self._challenge
        subscription.refusals += 1
        try:
            # Only the first request for authentication is answered without a delay.
            if subscription.refusals > 1 or not auth_required:
                delay = _MIN_DELAY * (1 << min(subscription.refusals, 10))
                await asyncio.sleep(min(delay, _MAX_DELAY))
            for secret_key in subscription.secret_keys if auth_required else []:
                await self._authenticate(secret_key)
        finally:
            subscription.is_refused = False
        await self._request(subscription)


class ConnectionLost(Exception):
    """The connection was lost after sending: the message may have arrived."""


# asyncio keeps only weak references to tasks.
# https://docs.python.org/3/library/asyncio-task.html#asyncio.create_task
_background: set[asyncio.Task[None]] = set()


def in_background(coroutine: Any) -> None:
    """Run a coroutine as a task; the loss of a connection ends it silently."""

    async def run() -> None:
        with suppress(RelayUnreachable, ConnectionLost, ConnectionClosed):
            await coroutine

    task = asyncio.create_task(run())
    _background.add(task)
    task.add_done_callback(_background.discard)
