"""Relay connections of one process, in one event loop that runs in its own thread.

Threads of Celery and the web server submit coroutines and wait. A forked child does not
inherit the thread: its first use creates another pool.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from caravel.core.exceptions import CaravelError
from caravel.nostr.events import Event, InvalidEvent, parse_event
from caravel.nostr.relays.connection import Connection, ConnectionLost, Filter
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.pending import PendingReplies, Request

logger = structlog.get_logger(__name__)

T = TypeVar("T")
#: Seconds that a thread waits for the event loop in addition to its own timeout.
_CALL_GRACE = 10.0
#: Maximum number of events that a fetch accepts from one relay.
_MAX_FETCHED = 100
#: Number of connections after which unused ones are dropped.
_MAX_CONNECTIONS = 100


class NoReply(CaravelError):
    """The event was or may have been sent, and no reply arrived in time."""

    code = "nostr-no-reply"
    status = 504


@dataclass(frozen=True)
class FetchResult:
    """Stored events of relays.

    `complete` if each relay sent EOSE, `answered` if at least one did.
    """

    events: tuple[Event, ...]
    complete: bool
    answered: bool


class RelayPool:
    """Sends events and waits for replies over connections that all callers share."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._connections: dict[Endpoint, Connection] = {}
        self._pending: dict[tuple[Endpoint, int], PendingReplies] = {}
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="nostr", daemon=True
        )
        self._thread.start()

    # --- called from any thread

    def request(
        self,
        endpoints: Sequence[Endpoint],
        event: Event,
        *,
        author: str,
        kind: int,
        timeout: float,
        secret_key: str = "",
    ) -> Event:
        """Send an event to all relays and return the first reply.

        A reply has this kind and author, and an `e` tag with the event's id. Raises
        RelayUnreachable if nothing was sent, and NoReply if the event may have been
        sent but no reply arrived within `timeout` seconds.
        """
        (reply,) = self.request_all(
            endpoints,
            [event],
            author=author,
            kind=kind,
            timeout=timeout,
            secret_key=secret_key,
        )
        if isinstance(reply, Event):
            return reply
        raise reply

    def request_all(
        self,
        endpoints: Sequence[Endpoint],
        events: Sequence[Event],
        *,
        author: str,
        kind: int,
        timeout: float,
        secret_key: str = "",
    ) -> list[Event | CaravelError]:
        """Send several events like `request`; errors are returned, not raised."""
        requests = [
            Request(e, author, kind, self._loop.create_future(), secret_key)
            for e in events
        ]
        return self.call(self._request_all(endpoints, requests, timeout), timeout)

    def fetch(
        self,
        endpoints: Sequence[Endpoint],
        filters: list[Filter],
        *,
        timeout: float,
        secret_key: str = "",
    ) -> FetchResult:
        """Return the stored events of relays. Raises RelayUnreachable.

        A missing event proves nothing unless the result is `complete`. The secret key
        is used if a relay requires authentication (NIP-42).
        """
        return self.call(self._fetch(endpoints, filters, timeout, secret_key), timeout)

    def publish(
        self,
        endpoints: Sequence[Endpoint],
        event: Event,
        *,
        timeout: float,
        secret_key: str = "",
    ) -> list[str]:
        """Send an event to all relays; return the hosts of those that accepted it."""
        publishing = self._publish(endpoints, event, timeout, secret_key)
        return self.call(publishing, timeout)

    def listen(
        self,
        endpoints: Sequence[Endpoint],
        filters: list[Filter],
        on_event: Callable[[Event], None],
        *,
        secret_key: str = "",
    ) -> None:
        """Subscribe for the life of the process, also across reconnects.

        `on_event` is called in the event loop's thread with each verified event. The
        secret key is used if a relay requires authentication (NIP-42).
        """

        def verify(data: object) -> None:
            with suppress(InvalidEvent):
                on_event(parse_event(data))

        for endpoint in endpoints:
            asyncio.run_coroutine_threadsafe(
                self._listen(endpoint, filters, verify, secret_key), self._loop
            )

    def connect_count(self, endpoint: Endpoint) -> int:
        """Return how many times the pool has connected to the relay."""
        connection = self._connections.get(endpoint)
        return connection.connect_count if connection else 0

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine in the event loop, and return its result."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("The pool's own thread cannot wait for itself.")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout + _CALL_GRACE)
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Close all connections and stop the thread."""
        if not self._thread.is_alive():
            return
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    # --- run in the event loop

    async def _request_all(
        self, endpoints: Sequence[Endpoint], requests: list[Request], timeout: float
    ) -> list[Event | CaravelError]:
        replies = await asyncio.gather(
            *[self._request(endpoints, request, timeout) for request in requests],
            return_exceptions=True,
        )
        for reply in replies:
            if not isinstance(reply, Event | CaravelError):
                raise reply
        return [r for r in replies if isinstance(r, Event | CaravelError)]

    async def _request(
        self, endpoints: Sequence[Endpoint], request: Request, timeout: float
    ) -> Event:
        tasks = [
            self._loop.create_task(self._send_request(endpoint, request))
            for endpoint in endpoints
        ]
        try:
            async with asyncio.timeout(timeout):
                return await self._first_reply(request, tasks)
        except TimeoutError:
            if request.sent:
                raise NoReply(f"No reply within {timeout:g} seconds.") from None
            raise RelayUnreachable("No relay could be reached in time.") from None
        finally:
            await _cancel(tasks)
            for endpoint in endpoints:
                self._pending_replies(endpoint, request.kind).remove(request)

    async def _send_request(self, endpoint: Endpoint, request: Request) -> None:
        """Subscribe to the reply at one relay, then send the event once."""
        await self._pending_replies(endpoint, request.kind).add(request)
        try:
            accepted, reason = await self._connection(endpoint).publish(
                request.event,
                secret_key=request.secret_key,
                ready_check=request.mark_sent,
            )
        except ConnectionLost:
            return
        # Not an error: a relay may forward an event although it rejects it.
        if not accepted:
            logger.debug("event_refused", relay=endpoint.host, reason=reason)

    async def _first_reply(
        self, request: Request, tasks: list[asyncio.Task[None]]
    ) -> Event:
        all_sent = asyncio.gather(*tasks, return_exceptions=True)
        either: list[asyncio.Future[Any]] = [request.reply, all_sent]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not request.reply.done() and not request.sent:
            errors = [error for error in all_sent.result() if error]
            raise next(iter(errors), RelayUnreachable("The wallet names no relay."))
        return await request.reply

    async def _fetch(
        self,
        endpoints: Sequence[Endpoint],
        filters: list[Filter],
        timeout: float,
        secret_key: str,
    ) -> FetchResult:
        events: dict[str, Event] = {}
        tasks = [
            self._loop.create_task(
                self._fetch_from(endpoint, filters, events, secret_key)
            )
            for endpoint in endpoints
        ]
        done, late = await asyncio.wait(tasks, timeout=timeout)
        await _cancel(list(late))
        errors = [task.exception() for task in done if task.exception()]
        if len(errors) == len(tasks):
            raise errors[0] or RelayUnreachable("No relay could be reached.")
        results = [task.result() for task in done if not task.exception()]
        complete = len(results) == len(tasks) and all(results)
        return FetchResult(tuple(events.values()), complete, answered=any(results))

    async def _fetch_from(
        self,
        endpoint: Endpoint,
        filters: list[Filter],
        events: dict[str, Event],
        secret_key: str,
    ) -> bool:
        """Add one relay's stored events; return whether it sent all of them (EOSE)."""
        remaining = iter(range(_MAX_FETCHED))

        def on_event(data: object) -> None:
            if next(remaining, None) is None:
                return
            with suppress(InvalidEvent):
                event = parse_event(data)
                events[event.id] = event

        connection = self._connection(endpoint)
        subscription = await connection.subscribe(
            filters, on_event, secret_keys=[secret_key]
        )
        try:
            return await asyncio.shield(subscription.stored)
        finally:
            connection.unsubscribe(subscription)

    async def _publish(
        self,
        endpoints: Sequence[Endpoint],
        event: Event,
        timeout: float,
        secret_key: str,
    ) -> list[str]:
        async def publish_to(endpoint: Endpoint) -> str:
            with suppress(RelayUnreachable, ConnectionLost):
                connection = self._connection(endpoint)
                accepted, _ = await connection.publish(event, secret_key=secret_key)
                return endpoint.host if accepted else ""
            return ""

        tasks = [self._loop.create_task(publish_to(endpoint)) for endpoint in endpoints]
        done, late = await asyncio.wait(tasks, timeout=timeout)
        await _cancel(list(late))
        return [task.result() for task in done if task.result()]

    async def _listen(
        self,
        endpoint: Endpoint,
        filters: list[Filter],
        on_event: Callable[[object], None],
        secret_key: str,
    ) -> None:
        """Subscribe, with retries; after that the connection restores itself."""
        delay = 1.0
        while True:
            with suppress(RelayUnreachable):
                await self._connection(endpoint).subscribe(
                    filters, on_event, secret_keys=[secret_key]
                )
                return
            await asyncio.sleep(delay)
            delay = min(delay * 2, 30.0)

    def _connection(self, endpoint: Endpoint) -> Connection:
        if endpoint not in self._connections:
            if len(self._connections) >= _MAX_CONNECTIONS:
                self._drop_unused()
            self._connections[endpoint] = Connection(endpoint)
        return self._connections[endpoint]

    def _pending_replies(self, endpoint: Endpoint, kind: int) -> PendingReplies:
        new = PendingReplies(self._connection(endpoint), kind)
        return self._pending.setdefault((endpoint, kind), new)

    def _drop_unused(self) -> None:
        """Drop unused connections, since tenants can name any number of relays."""
        awaited = {
            e for (e, _), pending in self._pending.items() if not pending.is_empty
        }
        for endpoint, connection in list(self._connections.items()):
            if endpoint not in awaited and not connection.is_used:
                del self._connections[endpoint]
        self._pending = {
            key: pending
            for key, pending in self._pending.items()
            if key[0] in self._connections
        }

    async def _close(self) -> None:
        closing = [connection.close() for connection in self._connections.values()]
        await asyncio.gather(*closing, return_exceptions=True)
        current = asyncio.current_task()
        await _cancel([task for task in asyncio.all_tasks() if task is not current])


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_pool: RelayPool | None = None
_abandoned: list[RelayPool] = []
_lock = threading.Lock()


def get_pool() -> RelayPool:
    """Return the pool of this process; the first call creates it."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = RelayPool()
        return _pool


@atexit.register
def close_pool() -> None:
    """Close the pool, if it exists; the next use creates another."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.close()


def _reset_in_child() -> None:
    """Forget the parent's pool after a fork: its thread does not run in the child."""
    global _pool, _lock
    if _pool is not None:
        # Keep a reference: garbage collection would touch sockets that the parent uses.
        _abandoned.append(_pool)
    # A new lock, since another thread may have held the old one during the fork.
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_reset_in_child)
