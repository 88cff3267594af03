"""Idempotency keys (docs: API reference, Idempotent requests)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sandbox.common.http import Request, Response
from sandbox.stripe.api.errors import StripeError, rejected
from sandbox.stripe.api.request import ApiRequest
from sandbox.stripe.store.records import Store

KIND = "_answer"
LIFETIME = 86_400
MAX_KEY_LENGTH = 255
# After a conflict or a rate limit nothing was executed, so Stripe stores nothing.
NOT_STORED = frozenset({409, 429})


def get_key(request: Request) -> str | None:
    """Return the key of a POST request, or None. Raises a 400 if it is too long."""
    if request.method != "POST":
        return None
    key = request.headers.get("idempotency-key")
    if key and len(key) > MAX_KEY_LENGTH:
        raise rejected(
            f"Idempotency keys can be at most {MAX_KEY_LENGTH} characters long.",
            param="Idempotency-Key",
        )
    return key or None


class IdempotentResponses:
    """First response for each key, and the keys of requests in flight."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._in_flight: set[str] = set()

    def begin(self, request: ApiRequest, now: int) -> Response | None:
        """Return the stored response, or None after marking the key as in flight.

        Raises a 409 `idempotency_key_in_use`, or a 400 if the request differs.
        """
        key, path = request.idempotency_key, request.http.path
        if key is None:
            return None
        if key in self._in_flight:
            raise _in_use(key)
        stored = self._store.get(KIND, key)
        if stored is None or stored["created"] + LIFETIME <= now:
            self._in_flight.add(key)
            return None
        if stored["path"] != path:
            endpoints = f"('{path}' vs '{stored['path']}')"
            raise _mismatch(
                key, f"for the same endpoint they were first used for {endpoints}"
            )
        if stored["fingerprint"] != _fingerprint(request.raw_params):
            raise _mismatch(key, "with the same parameters they were first used with")
        headers = {"Content-Type": "application/json", "Idempotent-Replayed": "true"}
        response = Response(stored["status"], stored["body"].encode(), headers)
        return _mark_stored(response, stored["request"])

    def save(self, request: ApiRequest, response: Response, now: int) -> Response:
        """Store the first response, in the transaction of the request.

        Returns it with the headers of a stored response.
        """
        key = request.idempotency_key
        if key is None or response.status in NOT_STORED:
            return response
        # An expired response. Deleting it first gives the new one its place by age, on
        # which the retention relies.
        if self._store.get(KIND, key):
            self._store.delete(KIND, key)
        self._store.put(
            KIND,
            {
                "id": key,
                "object": KIND,
                "created": now,
                "path": request.http.path,
                "fingerprint": _fingerprint(request.raw_params),
                "status": response.status,
                "body": response.body.decode(),
                "request": request.id,
            },
        )
        return _mark_stored(response, request.id)

    def end(self, request: ApiRequest) -> None:
        """Mark the request's key as no longer in flight."""
        self._in_flight.discard(request.idempotency_key or "")


def _fingerprint(params: Mapping[str, Any]) -> str:
    """Return a digest of the parameters that does not depend on their order."""
    ordered = json.dumps(params, sort_keys=True)
    return hashlib.sha256(ordered.encode()).hexdigest()


def _mark_stored(response: Response, request_id: str) -> Response:
    """Add the headers of a stored response, which a retry would only repeat.

    Source: response headers in issue reports; the SDK's `_should_retry` expects
    `false` on a stored 500.
    """
    headers = {"Original-Request": request_id, "Stripe-Should-Retry": "false"}
    return replace(response, headers={**response.headers, **headers})


def _in_use(key: str) -> StripeError:
    return StripeError(
        409,
        "There is currently another in-progress request using this Idempotent Key "
        "(that probably means you submitted twice, and the other request is still "
        f"going through): {key}. Please try again later.",
        type="idempotency_error",
        code="idempotency_key_in_use",
        stored=False,
    )


def _mismatch(key: str, rule: str) -> StripeError:
    return StripeError(
        400,
        f"Keys for idempotent requests can only be used {rule}. Try using a key other "
        f"than '{key}' if you meant to execute a different request.",
        type="idempotency_error",
        stored=False,
    )
