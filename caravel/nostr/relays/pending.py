"""Replies to events: up to a hundred requests share one subscription."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from caravel.nostr.events import Event, InvalidEvent, parse_event
from caravel.nostr.relays.background import in_background
from caravel.nostr.relays.connection import Connection
from caravel.nostr.relays.dial import RelayUnreachable
from caravel.nostr.relays.subscriptions import Filter, Subscription

#: Relays allow about this many values in a filter, and few subscriptions.
_MAX_BATCH = 100
#: Seconds to collect requests before their subscription is sent.
_BATCH_DELAY = 0.005
#: Seconds to wait for EOSE before an event is sent all the same, usually and at a relay
#: that sent none for the previous subscription.
_EOSE_TIMEOUT, _SHORT_EOSE_TIMEOUT = 5.0, 0.5
#: Seconds by which the clock of the author of a reply may be slow.
_MAX_SKEW = 120


@dataclass(eq=False)
class Request:
    """Event that waits for a reply of this kind, by this author, that refers to it."""

    event: Event
    author: str
    kind: int
    reply: asyncio.Future[Event]
    secret_key: str = field(default="", repr=False)
    #: True once any relay may have received the event.
    sent: bool = False

    def mark_sent(self) -> None:
        """Record that the event is about to be sent.

        Raises RelayUnreachable if the event has expired (NIP-40).
        """
        # It can expire here: the process may have been suspended since it was signed.
        if any(until <= time.time() for until in map(int, self._expirations())):
            raise RelayUnreachable("The request has expired before it was sent.")
        self.sent = True

    def _expirations(self) -> list[str]:
        return [v for v in self.event.values("expiration") if v.isdecimal()]

    def expects(self, pubkey: object, kind: object) -> bool:
        """Return whether an event of this author and kind would be the first reply."""
        is_reply = pubkey == self.author and kind == self.kind
        return is_reply and not self.reply.done()


@dataclass(eq=False)
class _Batch:
    subscribed: asyncio.Future[None]
    requests: dict[str, Request] = field(default_factory=dict)
    subscription: Subscription | None = None


class PendingReplies:
    """Requests that wait for replies of one kind over one connection."""

    def __init__(self, connection: Connection, kind: int) -> None:
        self._connection = connection
        self._kind = kind
        self._batches: dict[str, _Batch] = {}
        self._open_batch: _Batch | None = None
        self._eose_timeout = _EOSE_TIMEOUT

    @property
    def is_empty(self) -> bool:
        return not self._batches

    async def add(self, request: Request) -> None:
        """Subscribe to the reply; returns when the relay has confirmed that.

        Relays do not store replies: one that comes before the subscription is lost.
        Raises RelayUnreachable; the event must not be sent in that case.
        """
        batch = self._get_open_batch()
        batch.requests[request.event.id] = request
        self._batches[request.event.id] = batch
        if len(batch.requests) >= _MAX_BATCH:
            self._open_batch = None
        await asyncio.shield(batch.subscribed)

    def remove(self, request: Request) -> None:
        """Stop waiting; removing the last request of a batch ends its subscription."""
        batch = self._batches.pop(request.event.id, None)
        if batch is None:
            return
        del batch.requests[request.event.id]
        if not batch.requests and batch.subscription is not None:
            self._connection.unsubscribe(batch.subscription)

    def _get_open_batch(self) -> _Batch:
        if self._open_batch is None:
            loop = asyncio.get_running_loop()
            self._open_batch = batch = _Batch(loop.create_future())
            loop.call_later(_BATCH_DELAY, self._flush, batch)
        return self._open_batch

    def _flush(self, batch: _Batch) -> None:
        if self._open_batch is batch:
            self._open_batch = None
        in_background(self._subscribe(batch))

    async def _subscribe(self, batch: _Batch) -> None:
        if not batch.requests:
            batch.subscribed.cancel()
            return
        try:
            batch.subscription = await self._connection.subscribe(
                _reply_filters(self._kind, [*batch.requests.values()]),
                self._accept,
                secret_keys=[r.secret_key for r in batch.requests.values()],
            )
            await self._wait_for_eose(batch.subscription)
        except RelayUnreachable as exc:
            batch.subscribed.set_exception(exc)
            # Retrieved here, or asyncio logs an error if no request waits any more.
            batch.subscribed.exception()
        else:
            batch.subscribed.set_result(None)
        # All requests may have been removed meanwhile.
        if not batch.requests and batch.subscription is not None:
            self._connection.unsubscribe(batch.subscription)

    async def _wait_for_eose(self, subscription: Subscription) -> None:
        """Wait for EOSE, and note whether the relay sends it.

        The wait also ends with the last request, whose time may be short.
        """
        started_at = time.monotonic()
        if await subscription.wait_for_eose(self._eose_timeout):
            self._eose_timeout = _EOSE_TIMEOUT
        elif time.monotonic() - started_at >= _SHORT_EOSE_TIMEOUT:
            self._eose_timeout = _SHORT_EOSE_TIMEOUT

    def _accept(self, data: object) -> None:
        """Resolve the requests to which this event is the first valid reply."""
        requests = self._matching_requests(data)
        # Verification takes time of the event loop: an event is verified once for all
        # requests, and not at all if no request expects it.
        if requests:
            with suppress(InvalidEvent):
                event = parse_event(data)
                for request in requests:
                    request.reply.set_result(event)
                self._connection.time.forget()

    def _matching_requests(self, data: object) -> list[Request]:
        """Return the requests that expect this event, which is not verified yet."""
        if not isinstance(data, dict):
            return []
        pubkey, kind = data.get("pubkey"), data.get("kind")
        ids = dict.fromkeys(_referenced_ids(data.get("tags")))
        requests = [self._batches[id].requests[id] for id in ids if id in self._batches]
        return [request for request in requests if request.expects(pubkey, kind)]


def _reply_filters(kind: int, requests: list[Request]) -> list[Filter]:
    """Return filters of which every relay supports one.

    Some relays match new events by author or by `p` only, and some refuse filters with
    neither. Some wallets write no `p` tag into their replies.
    """
    # Not by `p` alone: anybody can write to the recipient.
    by_author = {"kinds": [kind], "authors": _unique(r.author for r in requests)}
    since = min(request.event.created_at for request in requests) - _MAX_SKEW
    recipients = _unique(request.event.pubkey for request in requests)
    return [
        {**by_author, "#e": [request.event.id for request in requests]},
        {**by_author, "#p": recipients, "since": since},
    ]


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _referenced_ids(tags: object) -> Iterator[str]:
    for tag in tags if isinstance(tags, list) else []:
        match tag:
            case ["e", str(id), *_]:
                yield id
