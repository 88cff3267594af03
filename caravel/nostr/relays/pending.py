"""Waiting for the answers to events: up to a hundred share one subscription."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from caravel.nostr.events import Event, InvalidEvent, parse_event
from caravel.nostr.relays.connection import Connection, Subscription, in_background
from caravel.nostr.relays.dial import RelayUnreachable

#: Real relays allow about as many values in a filter, and few subscriptions.
_LARGEST_BATCH = 100
#: Seconds in which requests gather for one subscription.
_GATHER = 0.005


@dataclass(eq=False)
class Request:
    """An event whose answer is awaited: of that kind, from that author, naming it."""

    event: Event
    author: str
    kind: int
    answer: asyncio.Future[Event]
    secret_key: str = field(default="", repr=False)
    #: Whether any relay may have got it.
    sent: bool = False

    def mark_sent(self) -> None:
        """Note that it is about to be sent. Raises RelayUnreachable if it is too old.

        A process that was suspended meanwhile must not send what has expired (NIP-40).
        """
        if any(until <= time.time() for until in map(int, self._expirations())):
            raise RelayUnreachable("The request has expired before it was sent.")
        self.sent = True

    def _expirations(self) -> list[str]:
        return [v for v in self.event.values("expiration") if v.isdecimal()]

    def wants(self, pubkey: object, kind: object) -> bool:
        """Whether an event of that author and kind would be the first answer."""
        is_answer = pubkey == self.author and kind == self.kind
        return is_answer and not self.answer.done()


@dataclass(eq=False)
class _Batch:
    ready: asyncio.Future[None]
    requests: dict[str, Request] = field(default_factory=dict)
    subscription: Subscription | None = None
    is_sealed: bool = False


class PendingReplies:
    """The requests of one kind that wait for an answer over one connection."""

    def __init__(self, connection: Connection, kind: int) -> None:
        self._connection = connection
        self._kind = kind
        self._waiting: dict[str, _Batch] = {}
        self._gathering: _Batch | None = None

    @property
    def are_awaited(self) -> bool:
        return bool(self._waiting)

    async def join(self, request: Request) -> None:
        """Return when the relay has been asked for the answer.

        Raises RelayUnreachable: the event has not been sent then.
        """
        batch = self._batch()
        batch.requests[request.event.id] = request
        self._waiting[request.event.id] = batch
        if len(batch.requests) >= _LARGEST_BATCH:
            self._gathering = None
        await asyncio.shield(batch.ready)

    def leave(self, request: Request) -> None:
        """Wait no longer; the last one of a batch ends its subscription."""
        batch = self._waiting.pop(request.event.id, None)
        if batch is None:
            return
        del batch.requests[request.event.id]
        if not batch.requests and batch.subscription is not None:
            self._connection.unsubscribe(batch.subscription)

    def _batch(self) -> _Batch:
        if self._gathering is None:
            loop = asyncio.get_running_loop()
            self._gathering = batch = _Batch(loop.create_future())
            loop.call_later(_GATHER, self._flush, batch)
        return self._gathering

    def _flush(self, batch: _Batch) -> None:
        if self._gathering is batch:
            self._gathering = None
        in_background(self._subscribe(batch))

    async def _subscribe(self, batch: _Batch) -> None:
        if not batch.requests:
            batch.ready.cancel()
            return
        try:
            batch.subscription = await self._connection.subscribe(
                [{"kinds": [self._kind], "#e": list(batch.requests)}],
                self._take,
                secret_keys=[r.secret_key for r in batch.requests.values()],
            )
        except RelayUnreachable as exc:
            batch.ready.set_exception(exc)
            # Should everybody have left, nobody looks at it.
            batch.ready.exception()
            return
        batch.ready.set_result(None)
        if not batch.requests:
            self._connection.unsubscribe(batch.subscription)

    def _take(self, data: object) -> None:
        """Accept first answers; what others say, or is said again, is ignored.

        Verifying costs time that all share, so it is done once, and for these only.
        """
        requests = self._that_want(data)
        if requests:
            with suppress(InvalidEvent):
                event = parse_event(data)
                for request in requests:
                    request.answer.set_result(event)

    def _that_want(self, data: object) -> list[Request]:
        """Return the requests that an event claims to answer; nothing is verified."""
        if not isinstance(data, dict):
            return []
        pubkey, kind = data.get("pubkey"), data.get("kind")
        named = dict.fromkeys(_ids_named(data.get("tags")))
        requests = [
            self._waiting[id].requests[id] for id in named if id in self._waiting
        ]
        return [request for request in requests if request.wants(pubkey, kind)]


def _ids_named(tags: object) -> Iterator[str]:
    for tag in tags if isinstance(tags, list) else []:
        match tag:
            case ["e", str(id), *_]:
                yield id
