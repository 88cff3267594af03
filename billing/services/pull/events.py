"""Stores the events of Stripe's list that no webhook has delivered."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial

import structlog
from django.db import transaction

from billing.clients.stripe.client import Stripe
from billing.exceptions import InvalidEvent, WrongMode
from billing.models import StripeCursor, StripeEvent
from billing.services.events.inbox import new_event
from billing.services.events.process import EVENT_TYPES
from billing.services.pull.cursors import Window, read_new, windows_since

logger = structlog.get_logger(__name__)

CURSOR = StripeCursor.EVENTS
#: The first pull: Stripe retries a delivery for as long.
#: https://docs.stripe.com/webhooks#automatic-retries
_FIRST = timedelta(days=3)
#: More than our clock may be wrong: webhook signatures allow five minutes.
_OVERLAP = timedelta(minutes=10)


def pull_events() -> None:
    """Store the events since the last pull that are not stored yet, and enqueue them.

    https://docs.stripe.com/webhooks/process-undelivered-events
    """
    read = partial(_store_events, Stripe(), undelivered=False)
    read_new(CURSOR, first=_FIRST, overlap=_OVERLAP, read=read)


def pull_events_since(start: datetime, *, undelivered: bool = False) -> int:
    """Like `pull_events`, but from a given time; the next pull is not affected.

    `undelivered`: only events that an endpoint has not acknowledged. Returns the number
    of events stored. Raises StripeError.
    """
    stripe = Stripe()
    return sum(
        _store_events(stripe, window, undelivered=undelivered)
        for window in windows_since(start)
    )


def _store_events(stripe: Stripe, window: Window, *, undelivered: bool) -> int:
    listed = stripe.events.list(
        types=sorted(EVENT_TYPES), created=window.created, undelivered=undelivered
    )
    events = {event.pk: event for event in _read(listed)}
    known = StripeEvent.objects.filter(pk__in=events).values_list("pk", flat=True)
    new = [events[pk] for pk in events.keys() - set(known)]
    _store(sorted(new, key=lambda event: event.created_at))
    return len(new)


def _read(bodies: Iterable[str]) -> Iterable[StripeEvent]:
    for body in bodies:
        try:
            yield new_event(body)
        except (InvalidEvent, WrongMode) as exc:
            # Refused as a delivery would be; the others must not wait for it.
            logger.error("listed_event_refused", error=str(exc), body=body[:60])


def _store(events: list[StripeEvent]) -> None:
    with transaction.atomic():
        # A webhook may deliver the same event at this moment.
        StripeEvent.objects.bulk_create(events, ignore_conflicts=True)
        for event in events:
            event.enqueue()
    if events:
        logger.info("events_pulled", count=len(events))
