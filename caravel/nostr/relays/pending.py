"""Replies to events: up to a hundred requests share one subscription.

The first one that waits for an author stays subscribed to all replies to its key.
"""

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
#: Seconds for which later requests use a subscription: some relays store replies, and
#: send all since its beginning again after a reconnect.
_MAX_AGE = 120.0
_Pair = tuple[str, str]


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

    @property
    def pair(self) -> _Pair:
        """The reply's author and its recipient."""
        return self.author, self.event.pubkey

    def expects(self, pubkey: object, kind: object) -> bool:
        """Return whether an event of this author and kind would be the first reply."""
        is_reply = pubkey == self.author and kind == self.kind
        return is_reply and not self.reply.done()


@dataclass(eq=False)
class _Batch:
    subscribed: asyncio.Future[None]
    requests: dict[str, Request] = field(default_factory=dict)
    subscription: Subscription | None = None
    #: Requests, also of later batches, whose replies it gets by author and recipient.
    heard: set[Request] = field(default_factory=set)
    started_at: float = field(default_factory=time.monotonic)
    #: The subscription's interruptions before the relay confirmed it.
    interruptions: tuple[int, int] | None = None

    @property
    def is_used(self) -> bool:
        return bool(self.requests or self.heard)

    @property
    def is_old(self) -> bool:
        return time.monotonic() - self.started_at >= _MAX_AGE

    @property
    def is_interrupted(self) -> bool:
        """True if the relay may have ended the subscription after it confirmed it."""
        if self.subscription is None or self.interruptions is None:
            return False
        return self.subscription.interruptions != self.interruptions


class PendingReplies:
    """Requests that wait for replies of one kind over one connection.

    `_hearing` is the batch whose subscription gets all of an author's replies to a
    recipient: if each had them all, the work would grow with the square of the
    requests. `_heard_by` is the one that gets a request's reply so; batches that
    referred to each other would never leave the memory.
    """

    def __init__(self, connection: Connection, kind: int) -> None:
        self._connection = connection
        self._kind = kind
        self._batches: dict[str, _Batch] = {}
        self._open_batch: _Batch | None = None
        self._hearing: dict[_Pair, _Batch] = {}
        self._heard_by: dict[Request, _Batch] = {}
        self._eose_timeout = _EOSE_TIMEOUT

    @property
    def is_empty(self) -> bool:
        return not self._batches

    async def add(self, request: Request) -> None:
        """Subscribe to the reply; returns when the relay has confirmed that.

        Relays do not store replies: one that comes before the subscription is lost.
        Raises RelayUnreachable; the event must not be sent in that case.
        """
        while True:
            batch = self._join_batch(request)
            await asyncio.shield(batch.subscribed)
            hearing = self._heard_by[request]
            if hearing is batch:
                return
            with suppress(RelayUnreachable):
                await asyncio.shield(hearing.subscribed)
                if not hearing.is_interrupted:
                    return
            # Its next batch does not depend on the one that failed.
            self.remove(request)

    def remove(self, request: Request) -> None:
        """Stop waiting; ends the subscriptions that no other request needs."""
        batch = self._batches.pop(request.event.id, None)
        if batch is None:
            return
        del batch.requests[request.event.id]
        hearing = self._heard_by.pop(request, batch)
        hearing.heard.discard(request)
        for each in {batch, hearing}:
            self._end_if_unused(each)

    def _end_if_unused(self, batch: _Batch) -> None:
        if batch.is_used:
            return
        self._stop_hearing(batch)
        if batch.subscription is not None:
            self._connection.unsubscribe(batch.subscription)

    def _hear(self, batch: _Batch) -> set[_Pair]:
        """Return the authors and recipients that no earlier batch subscribes to."""
        for request in batch.requests.values():
            hearing = self._hearing.get(request.pair)
            if hearing is None or hearing.is_interrupted or hearing.is_old:
                self._hearing[request.pair] = hearing = batch
            hearing.heard.add(request)
            self._heard_by[request] = hearing
        return {request.pair for request in batch.heard}

    def _stop_hearing(self, batch: _Batch) -> None:
        """Have later batches subscribe to its authors and recipients themselves."""
        ended = [pair for pair, each in self._hearing.items() if each is batch]
        for pair in ended:
            del self._hearing[pair]

    def _join_batch(self, request: Request) -> _Batch:
        batch = self._get_open_batch()
        batch.requests[request.event.id] = request
        self._batches[request.event.id] = batch
        if len(batch.requests) >= _MAX_BATCH:
            self._open_batch = None
        return batch

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
        requests = [*batch.requests.values()]
        filters = _reply_filters(self._kind, requests, self._hear(batch))
        try:
            batch.subscription = await self._connection.subscribe(
                filters,
                self._accept,
                secret_keys=[request.secret_key for request in requests],
            )
            await self._wait_for_eose(batch.subscription)
            batch.interruptions = batch.subscription.interruptions
        except RelayUnreachable as exc:
            self._stop_hearing(batch)
            batch.subscribed.set_exception(exc)
            # Retrieved here, or asyncio logs an error if no request waits any more.
            batch.subscribed.exception()
        else:
            batch.subscribed.set_result(None)
        # All requests may have been removed meanwhile.
        self._end_if_unused(batch)

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


def _reply_filters(
    kind: int, requests: list[Request], pairs: set[_Pair]
) -> list[Filter]:
    """Return filters of which every relay supports one.

    Some relays match new events by author or by `p` only, and some refuse filters with
    neither. Some wallets write no `p` tag into their replies. The pairs are those that
    no other subscription has by author and `p`.
    """
    by_id = {
        "kinds": [kind],
        "authors": _unique(request.author for request in requests),
        "#e": [request.event.id for request in requests],
    }
    if not pairs:
        return [by_id]
    authors, recipients = zip(*pairs, strict=True)
    # Not by `p` alone: anybody can write to the recipient.
    by_recipient = {
        "kinds": [kind],
        "authors": _unique(authors),
        "#p": _unique(recipients),
        "since": min(request.event.created_at for request in requests) - _MAX_SKEW,
    }
    return [by_id, by_recipient]


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _referenced_ids(tags: object) -> Iterator[str]:
    for tag in tags if isinstance(tags, list) else []:
        match tag:
            case ["e", str(id), *_]:
                yield id
