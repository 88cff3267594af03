"""The relay connections of one process: one event loop in a thread, made when needed.

Threads, Celery's and the web's, hand it coroutines and wait. A forked child has no such
thread; it makes a hub of its own when it first asks for one.
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
#: Seconds that a thread waits for the loop beyond what it asked for.
_GRACE = 10.0
#: How many events of one relay are kept for who fetches what it has.
_MOST_STORED = 100
#: How many relays' connections are remembered before those not in use are forgotten.
_MOST_KEPT = 100


class NoReply(CaravelError):
    """The event was sent, or may have been, and no answer came in time."""

    code = "nostr-no-reply"
    status = 504


@dataclass(frozen=True)
class FetchResult:
    """What relays had; not `complete` if some relay did not say that this is all.

    `answered` if at least one did.
    """

    events: tuple[Event, ...]
    complete: bool
    answered: bool


class RelayPool:
    """Sends events and waits for answers, over connections that all callers share."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._connections: dict[Endpoint, Connection] = {}
        self._replies: dict[tuple[Endpoint, int], PendingReplies] = {}
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="nostr", daemon=True
        )
        self._thread.start()

    # --- for any thread

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
        """Send an event to all relays and return the first answer to it.

        An answer is of that kind, names the event in an `e` tag, and is signed by the
        author. Raises RelayUnreachable when no connection came about, so that nothing
        was sent, and NoReply when nothing came within `timeout` seconds.
        """
        (answer,) = self.request_all(
            endpoints,
            [event],
            author=author,
            kind=kind,
            timeout=timeout,
            secret_key=secret_key,
        )
        if isinstance(answer, Event):
            return answer
        raise answer

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
        """Like `request` for several events at once; returns what it would raise."""
        requests = [
            Request(e, author, kind, self._loop.create_future(), secret_key)
            for e in events
        ]
        return self.call(self._request_all(endpoints, requests, timeout), timeout)

    def fetch(
        self, endpoints: Sequence[Endpoint], filters: list[Filter], *, timeout: float
    ) -> FetchResult:
        """Return the events that relays have now. Raises RelayUnreachable.

        An empty answer proves nothing unless it is `complete`.
        """
        return self.call(self._fetch(endpoints, filters, timeout), timeout)

    def publish(
        self,
        endpoints: Sequence[Endpoint],
        event: Event,
        *,
        timeout: float,
        secret_key: str = "",
    ) -> list[str]:
        """Send an event to all relays; return the hosts of those that accepted it."""
        work = self._publish(endpoints, event, timeout, secret_key)
        return self.call(work, timeout)

    def listen(
        self,
        endpoints: Sequence[Endpoint],
        filters: list[Filter],
        on_event: Callable[[Event], None],
    ) -> None:
        """Call `on_event`, in the loop's thread, for each event from now on.

        It goes on for the life of the process, whatever happens to the connections.
        """

        def verified(data: object) -> None:
            with suppress(InvalidEvent):
                on_event(parse_event(data))

        for endpoint in endpoints:
            asyncio.run_coroutine_threadsafe(
                self._listen(endpoint, filters, verified), self._loop
            )

    def opened(self, endpoint: Endpoint) -> int:
        """Return how often the relay's connection has been opened so far."""
        connection = self._connections.get(endpoint)
        return connection.opened if connection else 0

    def call(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine in the loop and wait for what it returns or raises."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("The hub's own thread cannot wait for itself.")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout + _GRACE)
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Close all connections and end the thread."""
        if not self._thread.is_alive():
            return
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    # --- in the loop

    async def _request_all(
        self, endpoints: Sequence[Endpoint], requests: list[Request], timeout: float
    ) -> list[Event | CaravelError]:
        answers = await asyncio.gather(
            *[self._request(endpoints, request, timeout) for request in requests],
            return_exceptions=True,
        )
        for answer in answers:
            if not isinstance(answer, Event | CaravelError):
                raise answer
        return [a for a in answers if isinstance(a, Event | CaravelError)]

    async def _request(
        self, endpoints: Sequence[Endpoint], request: Request, timeout: float
    ) -> Event:
        sending = [
            self._loop.create_task(self._ask(endpoint, request))
            for endpoint in endpoints
        ]
        try:
            async with asyncio.timeout(timeout):
                return await self._first_answer(request, sending)
        except TimeoutError:
            if request.sent:
                raise NoReply(f"No answer within {timeout:g} seconds.") from None
            raise RelayUnreachable("No relay could be reached in time.") from None
        finally:
            await _cancel(sending)
            for endpoint in endpoints:
                self._replies_of(endpoint, request.kind).leave(request)

    async def _ask(self, endpoint: Endpoint, request: Request) -> None:
        """Ask one relay for the answer, then give it the event; it is sent only once.

        A relay that refuses the event may have passed it on all the same.
        """
        await self._replies_of(endpoint, request.kind).join(request)
        try:
            accepted, reason = await self._connection(endpoint).publish(
                request.event, secret_key=request.secret_key, before=request.mark_sent
            )
        except ConnectionLost:
            return
        if not accepted:
            logger.debug("event_refused", relay=endpoint.host, reason=reason)

    async def _first_answer(
        self, request: Request, sending: list[asyncio.Task[None]]
    ) -> Event:
        sent = asyncio.gather(*sending, return_exceptions=True)
        either: list[asyncio.Future[Any]] = [request.answer, sent]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not request.answer.done() and not request.sent:
            failures = [failure for failure in sent.result() if failure]
            raise next(iter(failures), RelayUnreachable("The wallet names no relay."))
        return await request.answer

    async def _fetch(
        self, endpoints: Sequence[Endpoint], filters: list[Filter], timeout: float
    ) -> FetchResult:
        found: dict[str, Event] = {}
        looking = [
            self._loop.create_task(self._look(endpoint, filters, found))
            for endpoint in endpoints
        ]
        done, late = await asyncio.wait(looking, timeout=timeout)
        await _cancel(list(late))
        failures = [task.exception() for task in done if task.exception()]
        if len(failures) == len(looking):
            raise failures[0] or RelayUnreachable("No relay could be reached.")
        said = [task.result() for task in done if not task.exception()]
        complete = len(said) == len(looking) and all(said)
        return FetchResult(tuple(found.values()), complete, answered=any(said))

    async def _look(
        self, endpoint: Endpoint, filters: list[Filter], found: dict[str, Event]
    ) -> bool:
        room = iter(range(_MOST_STORED))

        def take(data: object) -> None:
            if next(room, None) is None:
                return
            with suppress(InvalidEvent):
                event = parse_event(data)
                found[event.id] = event

        connection = self._connection(endpoint)
        subscription = await connection.subscribe(filters, take)
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
        async def give(endpoint: Endpoint) -> str:
            with suppress(RelayUnreachable, ConnectionLost):
                connection = self._connection(endpoint)
                accepted, _ = await connection.publish(event, secret_key=secret_key)
                return endpoint.host if accepted else ""
            return ""

        giving = [self._loop.create_task(give(endpoint)) for endpoint in endpoints]
        done, late = await asyncio.wait(giving, timeout=timeout)
        await _cancel(list(late))
        return [task.result() for task in done if task.result()]

    async def _listen(
        self,
        endpoint: Endpoint,
        filters: list[Filter],
        on_event: Callable[[object], None],
    ) -> None:
        """Subscribe for good; once subscribed, the connection restores itself."""
        pause = 1.0
        while True:
            with suppress(RelayUnreachable):
                await self._connection(endpoint).subscribe(filters, on_event)
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 30.0)

    def _connection(self, endpoint: Endpoint) -> Connection:
        if endpoint not in self._connections:
            if len(self._connections) >= _MOST_KEPT:
                self._forget_unused()
            self._connections[endpoint] = Connection(endpoint)
        return self._connections[endpoint]

    def _replies_of(self, endpoint: Endpoint, kind: int) -> PendingReplies:
        new = PendingReplies(self._connection(endpoint), kind)
        return self._replies.setdefault((endpoint, kind), new)

    def _forget_unused(self) -> None:
        """Drop what no request needs: strangers may name ever more relays."""
        awaited = {
            e for (e, _), replies in self._replies.items() if replies.are_awaited
        }
        for endpoint, connection in list(self._connections.items()):
            if endpoint not in awaited and not connection.is_used:
                del self._connections[endpoint]
        self._replies = {
            key: replies
            for key, replies in self._replies.items()
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


_hub: RelayPool | None = None
_abandoned: list[RelayPool] = []
_lock = threading.Lock()


def get_pool() -> RelayPool:
    """Return the hub of this process; the first call makes it."""
    global _hub
    with _lock:
        if _hub is None:
            _hub = RelayPool()
        return _hub


@atexit.register
def close_pool() -> None:
    """Close the hub, if there is one; the next use makes another."""
    global _hub
    with _lock:
        closing, _hub = _hub, None
    if closing is not None:
        closing.close()


def _forget_in_child() -> None:
    """The parent's thread is not in a forked child, and its lock may have been held."""
    global _hub, _lock
    if _hub is not None:
        # Kept: collecting it would touch the sockets that the parent uses.
        _abandoned.append(_hub)
    _hub, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_in_child)
