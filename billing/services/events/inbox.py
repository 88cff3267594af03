"""Stores events; processing is left to a task."""

from datetime import UTC, datetime

from billing.clients.stripe.client import is_live_key
from billing.clients.stripe.webhook_signature import parse_event, verify_signature
from billing.exceptions import WrongMode
from billing.models import StripeEvent
from caravel.core.db.inserts import insert_if_new


def record_event(*, body: bytes, signature: str) -> str:
    """Verify a webhook delivery, store its event once, and return the event id.

    Raises InvalidSignature, InvalidEvent or WrongMode, and stores nothing then.
    """
    row = new_event(verify_signature(body, signature))
    if not insert_if_new(row):
        # Somebody asked Stripe to send it again: an event that has failed before does
        # not wait for its next attempt.
        failed = StripeEvent.objects.received().filter(pk=row.pk, enqueued_at=None)
        failed.update(next_attempt_at=row.next_attempt_at)
    return row.pk


def new_event(body: str) -> StripeEvent:
    """Return an event's row, not saved yet. Raises InvalidEvent or WrongMode."""
    event = parse_event(body)
    if event["livemode"] != is_live_key():
        raise WrongMode("The event's livemode differs from that of our Stripe key.")
    return StripeEvent(
        id=event["id"],
        type=event["type"],
        livemode=event["livemode"],
        body=body,
        created_at=datetime.fromtimestamp(event["created"], UTC),
    )
