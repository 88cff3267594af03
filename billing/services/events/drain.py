"""Processes the events that are due, several in one task."""

import time
from collections import deque
from datetime import datetime

import structlog
from django.db import transaction
from django.utils import timezone

from billing.models import StripeEvent
from billing.services.events.process import process_received
from caravel.core.wake_up import WakeUp

#: Seconds after which a task makes room for the other tasks of its queue.
_SECONDS = 1.0
#: Events claimed at once. Few, since they wait for each other.
_BATCH = 5

wake_up = WakeUp("billing.tasks.process_due_events")


def process_due_events() -> None:
    """Process events, longest due first, for about a second.

    If there are more, further messages bring in other workers, and this one again. An
    event that fails unexpectedly ends the task; the others are due again.
    """
    wake_up.received()
    end = time.monotonic() + _SECONDS
    is_full = True
    while is_full:
        now = timezone.now()
        claimed = StripeEvent.objects.claim_due(now=now, limit=_BATCH)
        is_full = len(claimed) == _BATCH
        if is_full:
            _send_wake_up()
        is_full &= _process(deque(claimed), now, end)


def _process(claimed: deque[StripeEvent], now: datetime, end: float) -> bool:
    """Process one event at least; return whether there is time for more."""
    has_time = True
    try:
        while claimed and has_time:
            event = claimed.popleft()
            with structlog.contextvars.bound_contextvars(event_id=event.pk):
                process_received(event)
            has_time = time.monotonic() < end
        return has_time
    finally:
        if claimed:
            StripeEvent.objects.release(claimed, claimed_at=now)
            _send_wake_up()


def _send_wake_up() -> None:
    # Robust: events are processed, too, while the broker is down.
    transaction.on_commit(wake_up.send, robust=True)
