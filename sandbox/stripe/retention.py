"""What the sandbox forgets, so that memory does not grow for ever."""

from sandbox.stripe import settings
from sandbox.stripe.context import DELIVERY
from sandbox.stripe.objects.events import RETENTION
from sandbox.stripe.protocol.idempotency import KIND as ANSWER
from sandbox.stripe.protocol.idempotency import LIFETIME
from sandbox.stripe.store import Store

# At most this many records go per request, so that none of them is slow.
BATCH = 100


def purge(store: Store, now: int) -> None:
    """Delete old answers and events; an event with a pending delivery stays."""
    kept = settings.read(store)
    _purge(store, ANSWER, now - LIFETIME, kept.keep_answers)
    _purge(store, "event", now - RETENTION, kept.keep_events)


def _purge(store: Store, kind: str, before: int, most: int) -> None:
    surplus = store.count(kind) - most
    first = store.oldest(kind, 1)
    if not first or (surplus <= 0 and first[0]["created"] >= before):
        return
    for number, record in enumerate(store.oldest(kind, BATCH)):
        if number >= surplus and record["created"] >= before:
            return
        if kind != "event" or not _awaited(store, record["id"]):
            store.delete(kind, record["id"])


def _awaited(store: Store, event: str) -> bool:
    return next(store.scan(DELIVERY, index=("event", event)), None) is not None
