"""One relay, one connection, shared by everything in the process that talks to it.

It opens when it is first needed and again whenever it is lost, as long as somebody has
a subscription; then it sends the subscriptions anew, but never an event.
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
IDLE = 120.0
#: Seconds between two attempts to connect again, or to subscribe again.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
_AUTH_KIND = 22242  # NIP-42
#: The share of the loop's time that one relay's messages may take, the seconds that it
#: may take at once, and what a message costs beside what is done with it.
_SHARE, _BURST, _MESSAGE = 0.2, 1.0, 0.00005


@dataclass(eq=False)
class Subscription:
    """What a relay was asked for; `on_event` gets events as they came, unverified."""

    id: str
    filters: list[Filter]
    on_event: Callable[[object], None]
    #: Done at EOSE with True, at CLOSED or when the connection is lost with False.
    stored: "asyncio.Future[bool]"
    #: How often the relay ended it on this connection, and whether it is to be asked
    #: again.
    refusals: int = 0
    is_refused: bool = False
    secret_keys: list[str] = field(default_factory=list, repr=False)


class Connection:
    """The connection to one relay; all of it runs in the hub's event loop."""

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
        #: Seconds of the loop's time that are still to be waited for, as of when.
        self._busy, self._busy_at = 0.0, 0.0
        #: How often it has been opened.
        self.opened = 0

    @property
    def is_open(self) -> bool:
        return self._websocket is not None and self._websocket.state is State.OPEN

    @property
    def is_used(self) -> bool:
        """Whether it is open, or about to be, or somebody waits for something."""
        is_opening = self._opening is not None and not self._opening.done()
        is_there = is_opening or self._websocket is not None
        return is_there or bool(self._subscriptions or self._oks)

    async def open(self) -> None:
        """Connect unless it is connected. Raises RelayUnreachable."""
        if self.is_open:
            return
        if self._websocket is not None:
            # It is closing; what it carried would be missing on the one after it.
            self._forget(self._websocket)
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
            # Should everybody have given up by then, the failure is nobody's.
            self._opening.add_done_callback(lambda t: t.cancelled() or t.exception())
        # One caller that gives up does not stop the others' waiting.
        await asyncio.shield(self._opening)

    async def subscribe(
        self,
        filters: Iterable[Filter],
        on_event: Callable[[object], None],
        *,
        secret_keys: Iterable[str] = (),
    ) -> Subscription:
        """Ask for events until `unsubscribe`. Raises RelayUnreachable.

        A connection lost under way is restored, and the relay asked again.

        The secret keys may be used to authenticate to a relay that wants it (NIP-42).
        """
        await self.open()
        subscription = Subscription(
            id=f"caravel-{next(self._numbers)}",
            filters=list(filters),
            on_event=on_event,
            stored=asyncio.get_running_loop().create_future(),
            secret_keys=list(dict.fromkeys(secret_keys)),
        )
        self._subscriptions[subscription.id] = subscription
        self._stay_open()
        try:
            with suppress(ConnectionLost):
                await self._request(subscription)
        except BaseException:
            self.unsubscribe(subscription)
            raise
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; the relay is told if it is there."""
        if self._subscriptions.pop(subscription.id, None) is None:
            return
        if not subscription.stored.done():
            subscription.stored.set_result(False)
        if self.is_open:
            in_background(self._say(["CLOSE", subscription.id]))
        if not self._subscriptions:
            self._close_when_idle()

    async def publish(
        self,
        event: Event,
        *,
        secret_key: str = "",
        before: Callable[[], None] = lambda: None,
    ) -> tuple[bool, str]:
        """Send an event once; return the relay's OK and its reason.

        Calls `before` when it is about to be sent. Raises RelayUnreachable when nothing
        was sent, ConnectionLost when the connection ended before an answer. A relay
        that answers `auth-required:` has not taken the event: it gets the same one
        again once we are authenticated.
        """
        accepted, reason = await self._publish(event, before)
        if reason.startswith("auth-required:") and secret_key and self._challenge:
            await self._authenticate(secret_key)
            accepted, reason = await self._publish(event, before)
        return accepted, reason

    async def close(self) -> None:
        """Close for good."""
        for task in (self._opening, self._restoring):
            if task is not None:
                task.cancel()
        self._stay_open()
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            await websocket.close()
        if self._reader is not None:
            self._reader.cancel()
        self._give_up_waiting()

    # --- opening

    async def _open(self) -> None:
        self._websocket = websocket = await dial(self.endpoint)
        self.opened += 1
        self._challenge = ""
        self._reader = asyncio.create_task(self._read(websocket))
        if not self._subscriptions:
            self._close_when_idle()

    async def _read(self, websocket: ClientConnection) -> None:
        try:
            async for message in websocket:
                began = time.perf_counter()
                self._take(message)
                await self._make_room(time.perf_counter() - began + _MESSAGE)
        except ConnectionClosed as exc:
            logger.debug("relay_closed", relay=self.endpoint.host, reason=str(exc))
        finally:
            self._forget(websocket)
            # Whatever ended the reading, nothing of it stays open.
            websocket.transport.abort()

    async def _make_room(self, seconds: float) -> None:
        """Wait if this relay has had more than its share of the loop's time.

        What it sends meanwhile stays in its own socket.
        """
        now = time.monotonic()
        rested = (now - self._busy_at) * _SHARE
        self._busy, self._busy_at = max(0.0, self._busy - rested) + seconds, now
        if self._busy > _BURST:
            await asyncio.sleep((self._busy - _BURST) / _SHARE)

    def _forget(self, websocket: ClientConnection) -> None:
        """Give up a connection, unless another has taken its place."""
        if self._websocket is websocket:
            self._websocket = None
            self._lost()

    def _lost(self) -> None:
        self._give_up_waiting()
        idle = self._restoring is None or self._restoring.done()
        if self._subscriptions and idle:
            self._restoring = asyncio.create_task(self._restore())

    async def _restore(self) -> None:
        """Connect again, at growing intervals, and repeat the subscriptions."""
        pause = _FIRST_PAUSE
        while self._subscriptions:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            with suppress(RelayUnreachable, ConnectionLost):
                await self.open()
                for subscription in list(self._subscriptions.values()):
                    subscription.refusals = 0
                    await self._request(subscription)
                return

    def _give_up_waiting(self) -> None:
        for subscription in self._subscriptions.values():
            if not subscription.stored.done():
                subscription.stored.set_result(False)
        for future in self._oks.values():
            if not future.done():
                future.set_exception(ConnectionLost(self.endpoint.host))
        self._oks.clear()

    def _stay_open(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def _close_when_idle(self) -> None:
        self._stay_open()
        loop = asyncio.get_running_loop()
        self._closing = loop.call_later(IDLE, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._oks:
            self._close_when_idle()
        elif not self._subscriptions and self._websocket is not None:
            in_background(self._websocket.close())

    # --- talking

    async def _request(self, subscription: Subscription) -> None:
        if subscription.id in self._subscriptions:
            await self._say(["REQ", subscription.id, *subscription.filters])

    async def _publish(
        self, event: Event, before: Callable[[], None]
    ) -> tuple[bool, str]:
        await self.open()
        return await self._acknowledged("EVENT", event, before)

    async def _authenticate(self, secret_key: str) -> None:
        """Prove to the relay that we hold a key (NIP-42)."""
        event = sign_event(
            secret_key,
            kind=_AUTH_KIND,
            content="",
            tags=[("relay", self.endpoint.url), ("challenge", self._challenge)],
        )
        await self._acknowledged("AUTH", event, lambda: None)

    async def _acknowledged(
        self, verb: str, event: Event, before: Callable[[], None]
    ) -> tuple[bool, str]:
        """Send an event and return the relay's OK to it."""
        new = asyncio.get_running_loop().create_future()
        answer = self._oks.setdefault(event.id, new)
        try:
            await self._say([verb, event.to_dict()], before)
            return await asyncio.shield(answer)
        finally:
            self._oks.pop(event.id, None)

    async def _say(
        self, message: list[object], before: Callable[[], None] = lambda: None
    ) -> None:
        websocket = self._websocket
        if websocket is None or websocket.state is not State.OPEN:
            raise RelayUnreachable(f"The relay {self.endpoint.host} hung up.")
        before()
        try:
            await websocket.send(json.dumps(message, separators=(",", ":")))
        except ConnectionClosed as exc:
            raise ConnectionLost(self.endpoint.host) from exc

    # --- listening

    def _take(self, message: str | bytes) -> None:
        try:
            content = json.loads(message)
        except (ValueError, RecursionError):
            content = None
        match content:
            case ["EVENT", str(id), data]:
                if subscription := self._subscriptions.get(id):
                    subscription.on_event(data)
            case ["EOSE", str(id)]:
                self._stored(id, True)
            case ["CLOSED", str(id), *reason]:
                self._refused(id, str(reason[0]) if reason else "")
            case ["OK", str(id), bool(accepted), *reason]:
                answer = self._oks.get(id)
                if answer is not None and not answer.done():
                    answer.set_result((accepted, str(reason[0]) if reason else ""))
            case ["AUTH", str(challenge)]:
                self._challenge = challenge

    def _stored(self, id: str, complete: bool) -> None:
        subscription = self._subscriptions.get(id)
        if subscription is not None and not subscription.stored.done():
            subscription.stored.set_result(complete)

    def _refused(self, id: str, reason: str) -> None:
        """The relay ended a subscription that we still want: ask again later."""
        subscription = self._subscriptions.get(id)
        if subscription is None or subscription.is_refused:
            return
        logger.debug("subscription_closed", relay=self.endpoint.host, reason=reason)
        self._stored(id, False)
        subscription.is_refused = True
        in_background(self._ask_again(subscription, reason))

    async def _ask_again(self, subscription: Subscription, reason: str) -> None:
        wants_auth = reason.startswith("auth-required:") and self._challenge
        subscription.refusals += 1
        try:
            if subscription.refusals > 1 or not wants_auth:
                await asyncio.sleep(_pause_after(subscription.refusals))
            for secret_key in subscription.secret_keys if wants_auth else []:
                await self._authenticate(secret_key)
        finally:
            subscription.is_refused = False
        await self._request(subscription)


def _pause_after(refusals: int) -> float:
    return min(_FIRST_PAUSE * (1 << min(refusals, 10)), _LONGEST_PAUSE)


class ConnectionLost(Exception):
    """The connection ended with something under way: it may have arrived."""


_background: set[asyncio.Task[None]] = set()


def in_background(coroutine: Any) -> None:
    """Run a coroutine whose end nobody waits for; a lost connection ends it too."""

    async def run() -> None:
        with suppress(RelayUnreachable, ConnectionLost, ConnectionClosed):
            await coroutine

    task = asyncio.create_task(run())
    _background.add(task)
    task.add_done_callback(_background.discard)
