"""Stripe's webhook signatures: https://docs.stripe.com/webhooks/signature."""

import json
import re
from typing import Any

from django.conf import settings
from stripe import SignatureVerificationError, WebhookSignature

from billing.exceptions import InvalidEvent, InvalidSignature

_NAME = re.compile(r"[\w.-]{1,100}")
_MAX_TIMESTAMP = 2**32
#: Levels of an event's JSON; Stripe's have about a dozen. Python reads several hundred,
#: but fewer the deeper it is itself: a task could not read what the web has stored.
_MAX_DEPTH = 64
_CONTAINERS = (dict, list)
#: Seconds for which a signature is valid.
TOLERANCE = 300


def verify_signature(body: bytes, signature: str) -> str:
    """Return the text of a webhook delivery, if one of our secrets signed it.

    Raises InvalidSignature (missing, wrong, or older than TOLERANCE) or InvalidEvent.
    """
    text = _text(body)
    secrets = settings.STRIPE_WEBHOOK_SECRETS
    if not any(_is_signed(text, signature, secret) for secret in secrets):
        raise InvalidSignature("The signature is missing, wrong or too old.")
    return text


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise InvalidEvent("The body is not UTF-8.") from exc


def _is_signed(text: str, signature: str, secret: str) -> bool:
    try:
        return bool(WebhookSignature.verify_header(text, signature, secret, TOLERANCE))
    except (SignatureVerificationError, ValueError, TypeError):
        # ValueError and TypeError: the SDK does not handle malformed headers.
        return False


def parse_event(text: str) -> dict[str, Any]:
    """Return the event in a text. Raises InvalidEvent."""
    try:
        event = json.loads(text)
        well_formed = (
            _NAME.fullmatch(event["id"])
            and _NAME.fullmatch(event["type"])
            and 0 <= event["created"] < _MAX_TIMESTAMP
            and isinstance(event["livemode"], bool)
            and isinstance(event["data"]["object"], dict)
            and _is_flat_enough(event)
        )
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise InvalidEvent("This is not a Stripe event.") from exc
    if not well_formed:
        raise InvalidEvent("This is not a Stripe event.")
    return dict(event)


def _is_flat_enough(value: Any) -> bool:
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH - 1):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, _CONTAINERS)
        ]
        if not level:
            return True
    return False
