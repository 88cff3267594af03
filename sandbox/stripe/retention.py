"""Deletion of old events and idempotent responses, to bound memory."""

from sandbox.stripe import settings
from sandbox.stripe.api.context import DELIVERY
from sandbox.stripe.api.idempotency import KIND as IDEMPOTENT_RESPONSE
from sandbox.stripe.api.idempotency import LIFETIME
from sandbox.stripe.objects.events.events import RETENTION
from sandbox.stripe.store.records import Store

# Maximum per request and kind, so that no single request becomes slow.
BATCH = 100


def purge(store: Store, now: int) -> None:
    """Delete old idempotent responses and events, except events still to deliver."""
    account = settings.read(store)
    _purge(store, IDEMPOTENT_RESPONSE, now - LIFETIME, account.keep_answers)
    _purge(store, "event", now - RETENTION, account.keep_events)


def _purge(store: Store, kind: str, before: int, max_count: int) -> None:
    excess = store.count(kind) - max_count
    first = store.oldest(kind, 1)
    if not first or (excess <= 0 and first[0]["created"] >= before):
        return
    for number, record in enumerate(store.oldest(kind, BATCH)):
        if number >= excess and record["created"] >= before:
            return  # The records are ordered by age: the others are newer.
        if kind != "event" or not _has_pending_delivery(store, record["id"]):
            store.delete(kind, record["id"])


def _has_pending_delivery(store: Store, event: str) -> bool:
    return next(store.scan(DELIVERY, index=("event", event)), None) is not None
