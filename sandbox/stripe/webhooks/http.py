"""Sending of one signed webhook delivery over HTTP."""

from collections.abc import Callable, Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.parse import urlsplit

from stripe import WebhookSignature

from sandbox.stripe.store.records import Record

Post = Callable[[str, bytes, Mapping[str, str]], int]
TIMEOUT = 20


class Delivery(NamedTuple):
    """Delivery of an event to an endpoint, ready to send.

    After a reset, deliveries of an earlier `epoch` are ignored.
    """

    record: Record
    event: Record
    endpoint: Record
    epoch: int


def post_over_http(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Send a POST request and return the status. Raises OSError or HTTPException."""
    parts = urlsplit(url)
    factory = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = factory(parts.hostname or "", parts.port, timeout=TIMEOUT)
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    with closing(connection):
        connection.request("POST", target, body, dict(headers))
        return connection.getresponse().status


def deliver(post: Post, delivery: Delivery, payload: str, *, signed_at: int) -> int:
    """Sign and send a payload; return the status, or 0 without a response."""
    signature = WebhookSignature.generate_signature_header(
        payload, delivery.endpoint["_secret"], signed_at
    )
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": signature,
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }
    try:
        return post(delivery.endpoint["url"], payload.encode(), headers)
    except (OSError, HTTPException):
        return 0
