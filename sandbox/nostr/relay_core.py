"""The shared state of all connections: events, subscriptions, faults, counters."""

import time
from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from sandbox.common.faults import Faults
from sandbox.common.nostr import Event
from sandbox.nostr.faults import Place, RelayFault
from sandbox.nostr.faulty_reply import DelayedActions, Reply, send_reply
from sandbox.nostr.filters import Filter, Index, Key
from sandbox.nostr.messages import event_message, message, with_bad_signature
from sandbox.nostr.settings import RelaySettings
from sandbox.nostr.store import EventStore, Record


class Peer(Protocol):
    """A connection, see `Session`."""

    pubkeys: set[str]

    def deliver(self, subscription: "Subscription", text: str) -> None: ...
    def end_subscriptions(self) -> None: ...
    def hang_up(self) -> None: ...
    def may_read(self, event: Event) -> bool: ...


@dataclass(frozen=True, slots=True, eq=False)
class Subscription:
    """An open REQ of one connection."""

    peer: Peer
    id: str
    filters: tuple[Filter, ...]

    def keys(self) -> set[Key]:
        """Return the index keys of its filters."""
        return {key for filter in self.filters for key in filter.index_keys()}

    def matches(self, event: Event) -> bool:
        """Return whether one of its filters matches the event."""
        return any(filter.matches(event) for filter in self.filters)


class RelayCore:
    """A relay without its sockets; use it on the relay's event loop only."""

    def __init__(self, settings: RelaySettings) -> None:
        self.settings = settings
        self.peers: set[Peer] = set()
        self.subscriptions: Index[Subscription] = Index()
        self.delayed = DelayedActions()
        self.accepted = 0
        self.reset()

    def reset(self) -> None:
        """Delete events, faults and counters; connections and subscriptions stay."""
        self.delayed.discard()
        self.faults: Faults[RelayFault] = Faults(self.settings.seed)
        self.store = EventStore()
        self.received: deque[Event] = deque(maxlen=self.settings.max_received)
        self.counts: Counter[int] = Counter()
        self.requests = 0

    def clear_faults(self) -> None:
        """Remove all faults, and run at once what they delayed."""
        self.faults.clear()
        self.delayed.finish()

    def end_subscriptions(self) -> None:
        """Close all subscriptions and send CLOSED to their clients."""
        for peer in list(self.peers):
            peer.end_subscriptions()

    def record_received(self, event: Event) -> None:
        """Record an event that a client sent, whether or not it is accepted."""
        self.received.append(event)
        self.counts[event.kind] += 1

    def publish(self, event: Event) -> str:
        """Store an event and deliver it; return the OK message for the sender."""
        if self.settings.honours_expiration and event.is_expired(time.time()):
            return message("OK", event.id, False, "invalid: event is expired")
        record = Record(event)
        duplicate = self.store.put(record, max_events=self.settings.max_events)
        if not duplicate:
            for subscription in self.subscriptions.find(record.keys):
                if subscription.matches(event):
                    self._deliver(subscription, record)
        return message("OK", event.id, True, duplicate)

    def query(self, filters: Iterable[Filter]) -> list[Record]:
        """Return the stored events that match any filter, newest first."""
        now = time.time() if self.settings.honours_expiration else None
        return self.store.query(filters, max_results=self.settings.max_limit, now=now)

    def reply(
        self, reply: Reply, on: Place, kinds: Collection[int], authors: Collection[str]
    ) -> None:
        """Send a reply about these kinds and authors, altered by a matching fault."""
        fault = self.faults.take(lambda fault: fault.matches(on, kinds, authors))
        send_reply(reply, fault, self.delayed)

    def _deliver(self, subscription: Subscription, record: Record) -> None:
        event, peer = record.event, subscription.peer
        if not peer.may_read(event):
            return
        text = event_message(subscription.id, record.json)
        # Usually there are no faults, and the bad signature is not needed.
        if not self.faults.active():
            peer.deliver(subscription, text)
            return
        reply = Reply(
            produce=lambda: text,
            send=lambda text: peer.deliver(subscription, text),
            hang_up=peer.hang_up,
            bad_signature=event_message(subscription.id, with_bad_signature(event)),
        )
        self.reply(reply, "delivery", (event.kind,), (event.pubkey,))
