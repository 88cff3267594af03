"""Relay connections of one process, in event loops that run in their own threads.

There are two pools: one for our relays, one for those that strangers have named, which
thus cannot delay ours. Threads of Celery and the web server submit coroutines and wait.
A forked child does not inherit the threads: its first use creates other pools.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import structlog

from caravel.core.exceptions import CaravelError, Unavailable
from caravel.nostr.events import Event, InvalidEvent, parse_event
from caravel.nostr.relays.background import cancel, run_each
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.exchange import EventRefused, NoReply, Sending, exchange
from caravel.nostr.relays.fetch import FetchResult, fetch, publish
from caravel.nostr.relays.limits import OURS, STRANGERS, Limits
from caravel.nostr.relays.shared_connections import SharedConnections
from caravel.nostr.relays.subscriptions import Filter

__all__ = [
    "EventRefused",
    "FetchResult",
    "NoReply",
    "RelayPool",
    "close_pool",
    "get_pool",
    "pool_for",
]

logger = structlog.get_logger(__name__)

T = TypeVar("T")
#: Seconds that a thread waits for the event loop in addition to its own timeout.
_CALL_GRACE = 10.0
_LATE = "The relays could not be asked in time."


class PoolTimeout(Unavailable):
    """The event loop of the relay connections has not answered in time."""

    code = "relays-timeout"


class RelayPool:
    """Sends events and waits for replies over connections that all callers share."""

    def __init__(self, limits: Limits = OURS) -> None:
        self._loop = asyncio.new_event_loop()
        self._connections = SharedConnections(limits)
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
        sendings = [
            Sending(endpoints, event, author, kind, secret_key) for event in events
        ]
        replies = dict(chain.from_iterable(self.request_each(sendings, timeout)))
        return [replies[i] for i in range(len(events))]

    def request_each(
        self, sendings: Sequence[Sending], timeout: float
    ) -> Iterator[list[tuple[int, Event | CaravelError]]]:
        """Send events to different relays like `request`; errors are yielded.

        Yields each reply with the position of its event, in groups as they arrive.
        """
        exchanges = [
            partial(exchange, self._connections, sending, timeout)
            for sending in sendings
        ]
        # After a timeout each may have been sent, or be sent until the loop notices.
        yield from self._each(exchanges, timeout, NoReply(_LATE))

    def fetch_each(
        self,
        fetches: Sequence[tuple[Sequence[Endpoint], list[Filter], Sequence[str]]],
        *,
        timeout: float,
    ) -> list[FetchResult | CaravelError]:
        """Fetch by several filters and secret keys at once; errors are returned."""
        functions = [
            partial(
                fetch,
                self._connections,
                endpoints,
                filters,
                timeout=timeout,
                secret_keys=secret_keys,
            )
            for endpoints, filters, secret_keys in fetches
        ]
        late = RelayUnreachable(_LATE)
        results = dict(chain.from_iterable(self._each(functions, timeout, late)))
        return [results[i] for i in range(len(fetches))]

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
        fetches = [(endpoints, filters, [secret_key])]
        (result,) = self.fetch_each(fetches, timeout=timeout)
        if isinstance(result, FetchResult):
            return result
        raise result

    def publish(
        self,
        endpoints: Sequence[Endpoint],
        event: Event,
        *,
        timeout: float,
        secret_key: str = "",
    ) -> list[str]:
        """Send an event to all relays; return the hosts of those that accepted it."""
        publishing = publish(
            self._connections,
            endpoints,
            event,
            timeout=timeout,
            secret_key=secret_key,
        )
        try:
            return self.call(publishing, timeout)
        except PoolTimeout as exc:
            logger.warning("event_not_published", reason=exc.message)
            return []

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

        def listen() -> None:
            for endpoint in endpoints:
                connection = self._connections.get(endpoint)
                connection.listen(filters, verify, secret_key=secret_key)

        self._loop.call_soon_threadsafe(listen)

    def connect_count(self, endpoint: Endpoint) -> int:
        """Return how many times the pool has connected to the relay."""
        connection = self._connections.by_endpoint.get(endpoint)
        return connection.connect_count if connection else 0

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine in the event loop, and return its result.

        Raises PoolTimeout.
        """
        try:
            self._require_other_thread()
        except RuntimeError:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout + _CALL_GRACE)
        except TimeoutError as exc:
            raise PoolTimeout(_LATE) from exc
        finally:
            future.cancel()  # without effect if it is done

    def _require_other_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError("The pool's own thread cannot wait for itself.")

    def _each(
        self,
        functions: Sequence[Callable[[], Coroutine[Any, Any, T]]],
        timeout: float,
        late: CaravelError,
    ) -> Iterator[list[tuple[int, T | CaravelError]]]:
        """Run them at once; yield results as they arrive, `late` without one."""
        self._require_other_thread()
        return run_each(functions, self._loop, timeout + _CALL_GRACE, late)

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

    async def _close(self) -> None:
        await self._connections.close()
        current = asyncio.current_task()
        await cancel([task for task in asyncio.all_tasks() if task is not current])


#: The pool of strangers (False) and ours (True).
_pools: dict[bool, RelayPool] = {}
_abandoned: list[RelayPool] = []
_lock = threading.Lock()


def get_pool(*, is_ours: bool = True) -> RelayPool:
    """Return a pool of this process; the first call creates it."""
    with _lock:
        if is_ours not in _pools:
            _pools[is_ours] = RelayPool(OURS if is_ours else STRANGERS)
        return _pools[is_ours]


def pool_for(endpoints: Sequence[Endpoint]) -> RelayPool:
    """Return our relays' pool if all endpoints are ours, otherwise the strangers'."""
    return get_pool(is_ours=all(endpoint.is_ours for endpoint in endpoints))


@atexit.register
def close_pool() -> None:
    """Close the pools, if they exist; the next use creates others."""
    with _lock:
        pools = [*_pools.values()]
        _pools.clear()
    for pool in pools:
        pool.close()


def _reset_in_child() -> None:
    """Forget the parent's pools after a fork: their threads do not run in the child."""
    global _lock
    # Keep a reference: garbage collection would touch sockets that the parent uses.
    _abandoned.extend(_pools.values())
    _pools.clear()
    # A new lock, since another thread may have held the old one during the fork.
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_reset_in_child)
