"""Stores events; processing is left to a task."""

from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from billing.clients.stripe.client import is_live_key
from billing.clients.stripe.webhook_signature import parse_event, verify_signature
from billing.exceptions import WrongMode
from billing.models import StripeEvent
from caravel.core.db.inserts import insert_if_new


def record_event(*, body: bytes, signature: str) -> str:
    """Verify a webhook delivery, store its event once, and return the event id.

    Raises InvalidSignature, InvalidEvent or WrongMode, and stores nothing then.
    """
    columns = _columns(verify_signature(body, signature))
    event_id = str(columns["id"])
    if not insert_if_new(StripeEvent, columns):
        # Somebody asked Stripe to send it again: an event that has failed before does
        # not wait for its next attempt.
        failed = StripeEvent.objects.received().filter(pk=event_id, enqueued_at=None)
        failed.update(next_attempt_at=timezone.now())
    return event_id


def new_event(body: str) -> StripeEvent:
    """Return an event's row, not saved yet. Raises InvalidEvent or WrongMode."""
    return StripeEvent(**_columns(body))


def _columns(body: str) -> dict[str, Any]:
    event = parse_event(body)
    if event["livemode"] != is_live_key():
        raise WrongMode("The event's livemode differs from that of our Stripe key.")
    return {
        "id": event["id"],
        "type": event["type"],
        "livemode": event["livemode"],
        "body": body,
        "created_at": datetime.fromtimestamp(event["created"], UTC),
    }
