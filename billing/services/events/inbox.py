"""The webhook inbox: store first, act later."""

from datetime import UTC, datetime

from django.utils import timezone

from billing.clients.stripe.client import is_live_key
from billing.clients.stripe.webhook_signature import verify_event
from billing.exceptions import WrongMode
from billing.models import StripeEvent


def record_event(*, body: bytes, signature: str) -> str:
    """Verify a delivery and store its event, unless it is stored; returns the id.

    Raises InvalidSignature, InvalidEvent or WrongMode, having stored nothing.
    """
    event = verify_event(body, signature)
    if event["livemode"] != is_live_key():
        raise WrongMode("This event is not of our key's mode (test or live).")
    row = StripeEvent(
        id=event["id"],
        type=event["type"],
        livemode=event["livemode"],
        body=body.decode(),
        created_at=datetime.fromtimestamp(event["created"], UTC),
        enqueued_at=timezone.now(),
    )
    StripeEvent.objects.bulk_create([row], ignore_conflicts=True)
    return row.pk
