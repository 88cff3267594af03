"""Connection to one relay, shared by all users of the relay in the process.

It opens on first use. If it is lost while there are subscriptions, it reconnects. On
each new connection the subscriptions are repeated first; events are never sent again.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from caravel.nostr.events import Event
from caravel.nostr.relays.acknowledgements import Acknowledgements
from caravel.nostr.relays.authentication import Authentication, AuthenticationFailed
from caravel.nostr.relays.background import ConnectionLost, in_background
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable, dial
from caravel.nostr.relays.limits import Limits
from caravel.nostr.relays.subscriptions import Filter, Subscription, Subscriptions
from caravel.nostr.relays.time_share import RelayTime, TimeShare
from caravel.nostr.relays.websocket import parse_message, printable_reason

logger = structlog.get_logger(__name__)

#: Seconds before reconnecting: the first delay and the maximum.
_MIN_DELAY, _MAX_DELAY = 0.25, 30.0


class Connection:
    """Connection to one relay. All methods run in the pool's event loop."""

    def __init__(self, endpoint: Endpoint, limits: Limits, share: TimeShare) -> None:
        self.endpoint = endpoint
        self._limits = limits
        self.time = RelayTime(share)
        self._websocket: ClientConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._restoring: asyncio.Task[None] | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._acknowledgements = Acknowledgements(self._send)
        self._authentication = Authentication(endpoint, self._acknowledgements)
        self._subscriptions = Subscriptions(
            endpoint.host, self._send, self._authentication
        )
        self._delay = _MIN_DELAY
        self.connect_count = 0

    @property
    def is_open(self) -> bool:
        return self._websocket is not None and self._websocket.state is State.OPEN

    @property
    def is_used(self) -> bool:
        """True if it is opening, has subscriptions, or waits for an OK."""
        is_opening = self._opening is not None and not self._opening.done()
        return is_opening or bool(self._subscriptions or self._acknowledgements)

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
        subscription = self._subscriptions.add(filters, on_event, secret_keys)
        self._cancel_closing()
        try:
            await self._request(subscription)
        except BaseException:
            self.unsubscribe(subscription)
            raise
        return subscription

    def listen(
        self,
        filters: Iterable[Filter],
        on_event: Callable[[object], None],
        *,
        secret_key: str = "",
    ) -> None:
        """Subscribe for the life of the process, also if the relay is down now."""
        subscription = self._subscriptions.add(filters, on_event, [secret_key])
        self._cancel_closing()
        in_background(self._listen(subscription))

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; sends CLOSE if connected."""
        if not self._subscriptions.remove(subscription):
            return
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
        """Send an event once; return whether the relay accepts it, and its reason.

        `ready_check` is called right before the event is sent, and can prevent that by
        raising. Raises RelayUnreachable if nothing was sent, ConnectionLost if the
        connection was lost before the OK.
        """
        keys = [secret_key] if secret_key else []
        await self._authentication.prove_further(keys)
        accepted, reason = await self._publish(event, ready_check)
        # NIP-42: the relay has not accepted the event, so it may be sent again.
        if not accepted and self._authentication.may_help(reason, keys):
            try:
                await self._authentication.prove(keys)
            except AuthenticationFailed as exc:
                return False, exc.message
            accepted, reason = await self._publish(event, ready_check)
        # NIP-01 says true for an event that the relay has already; some say false.
        return accepted or reason.startswith("duplicate:"), reason

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
        self._acknowledgements.fail(ConnectionLost(self.endpoint.host))
        self._subscriptions.fail(RelayUnreachable("The connection was closed."))

    # --- opening

    async def _connect(self) -> None:
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

    async def _open(self) -> None:
        self._websocket = websocket = await dial(self.endpoint, self.time)
        self.connect_count += 1
        self._authentication.reset()
        self._reader = asyncio.create_task(self._read(websocket))
        if self._restoring is not None:
            self._restoring.cancel()
            self._restoring = None
        if not self._subscriptions:
            self._close_when_idle()
        # If the connection is lost here, they are repeated on the next one.
        with suppress(ConnectionLost):
            await self._subscriptions.request_all()

    async def _read(self, websocket: ClientConnection) -> None:
        try:
            async for message in websocket:
                started_at = time.thread_time()
                self._receive(message)
                await self.time.spend(time.thread_time() - started_at)
        except ConnectionClosed as exc:
            logger.debug("relay_closed", relay=self.endpoint.host, reason=str(exc))
        finally:
            self._discard(websocket)
            # After any error or cancellation the socket must not stay open.
            websocket.transport.abort()

    def _discard(self, websocket: ClientConnection) -> None:
        """Handle the loss of a websocket, unless another one has replaced it."""
        if self._websocket is not websocket:
            return
        self._websocket = None
        self._acknowledgements.fail(ConnectionLost(self.endpoint.host))
        self._subscriptions.on_connection_lost()
        self._start_restoring()

    def _start_restoring(self) -> None:
        if self._restoring is None or self._restoring.done():
            self._restoring = asyncio.create_task(self._restore())

    async def _restore(self) -> None:
        """Reconnect, with growing delays, while there are subscriptions."""
        while self._subscriptions:
            await asyncio.sleep(self._delay)
            # Reset at the first EOSE: a relay that only accepts connections and closes
            # them is not dialled again and again.
            self._delay = min(self._delay * 2, _MAX_DELAY)
            try:
                await self._connect()
                return
            except RelayUnreachable as exc:
                self._subscriptions.fail(exc)

    def _cancel_closing(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None

    def _close_when_idle(self) -> None:
        self._cancel_closing()
        loop = asyncio.get_running_loop()
        timeout = self._limits.idle_timeout
        self._closing = loop.call_later(timeout, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._acknowledgements:
            self._close_when_idle()
        elif not self._subscriptions and self._websocket is not None:
            in_background(self._websocket.close())

    # --- sending

    async def _request(self, subscription: Subscription) -> None:
        if not self.is_open:
            await self._connect()  # sends all subscriptions
            return
        # If the connection is lost here, the subscription is repeated on the next one.
        with suppress(ConnectionLost):
            await self._subscriptions.request(subscription)

    async def _listen(self, subscription: Subscription) -> None:
        try:
            await self._request(subscription)
        except RelayUnreachable:
            self._start_restoring()

    async def _publish(
        self, event: Event, ready_check: Callable[[], None]
    ) -> tuple[bool, str]:
        await self._connect()
        return await self._acknowledgements.send("EVENT", event, ready_check)

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
        if len(message) > self._limits.max_message:
            return
        match parse_message(message, self._subscriptions):
            case ["EVENT", str(id), data]:
                self._subscriptions.on_event(id, data)
            case ["EOSE", str(id)]:
                self._delay = _MIN_DELAY
                self._subscriptions.on_eose(id)
            case ["CLOSED", str(id), *reasons]:
                self._subscriptions.on_closed(id, printable_reason(reasons))
            case ["NOTICE", *reasons]:
                self._subscriptions.on_notice(printable_reason(reasons))
            case ["OK", str(id), bool(accepted), *reasons]:
                self._acknowledgements.on_ok(id, accepted, printable_reason(reasons))
            case ["AUTH", str(challenge)]:
                self._authentication.on_challenge(challenge)
