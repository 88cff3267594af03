"""Stripe's webhook signatures: https://docs.stripe.com/webhooks/signature."""

import json
import re
from typing import Any

import stripe
from django.conf import settings

from billing.exceptions import InvalidEvent, InvalidSignature

_NAME = re.compile(r"[\w.-]{1,100}")
_LATEST = 2**32
#: Seconds that a signature is good for.
TOLERANCE = 300


def verify_event(body: bytes, signature: str) -> dict[str, Any]:
    """Return the event of a delivery that one of our secrets signed.

    Raises InvalidSignature (missing, wrong or older than TOLERANCE) or InvalidEvent.
    """
    text = _text(body)
    secrets = settings.STRIPE_WEBHOOK_SECRETS
    if not any(_signed(text, signature, secret) for secret in secrets):
        raise InvalidSignature("The signature is missing, wrong or too old.")
    return _event(text)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise InvalidEvent("The body is not UTF-8.") from exc


def _signed(text: str, signature: str, secret: str) -> bool:
    try:
        return bool(
            stripe.WebhookSignature.verify_header(text, signature, secret, TOLERANCE)
        )
    except (stripe.SignatureVerificationError, ValueError, TypeError):
        return False  # the SDK trips over what is no signature at all


def _event(text: str) -> dict[str, Any]:
    try:
        event = json.loads(text)
        well_formed = (
            _NAME.fullmatch(event["id"])
            and _NAME.fullmatch(event["type"])
            and 0 <= event["created"] < _LATEST
            and isinstance(event["livemode"], bool)
            and isinstance(event["data"]["object"], dict)
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise InvalidEvent("The body is not a Stripe event.") from exc
    if not well_formed:
        raise InvalidEvent("The body is not a Stripe event.")
    return dict(event)
