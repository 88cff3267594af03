"""Idempotency keys (docs: API reference, Idempotent requests)."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sandbox.common.http import Request, Response, dump_json
from sandbox.stripe.api.errors import StripeError, rejected
from sandbox.stripe.store.records import Record, Store

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

    def begin(
        self, key: str, path: str, params: Mapping[str, Any], now: int
    ) -> Response | None:
        """Return the stored response, or None after marking the key as in flight.

        Raises a 409 `idempotency_key_in_use`, or a 400 if the request differs.
        """
        if key in self._in_flight:
            raise _in_use(key)
        stored = self._store.get(KIND, key)
        if stored is None or stored["created"] + LIFETIME <= now:
            self._in_flight.add(key)
            return None
        if stored["path"] != path:
            raise _other_endpoint(key, path, stored["path"])
        if stored["fingerprint"] != fingerprint(params):
            raise _other_parameters(key)
        return _replay(stored)

    def save(
        self,
        key: str,
        path: str,
        params: Mapping[str, Any],
        response: Response,
        now: int,
    ) -> Response:
        """Store the first response, in the transaction of the request.

        Returns it with the headers of a stored response.
        """
        if response.status in NOT_STORED:
            return response
        request_id = response.headers.get("Request-Id", "")
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
                "path": path,
                "fingerprint": fingerprint(params),
                "status": response.status,
                "body": response.body.decode(),
                "request": request_id,
            },
        )
        headers = {**response.headers, **_stored_headers(request_id)}
        return replace(response, headers=headers)

    def end(self, key: str) -> None:
        """Mark the request of a key as no longer in flight."""
        self._in_flight.discard(key)


def fingerprint(params: Mapping[str, Any]) -> str:
    """Return a digest of the parameters that does not depend on their order."""
    ordered = dump_json(_sorted(params))
    return hashlib.sha256(ordered.encode()).hexdigest()


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return value


def _stored_headers(request_id: str) -> dict[str, str]:
    """Return the headers of a stored response, which a retry would only repeat.

    Source: response headers in issue reports; the SDK's `_should_retry` expects
    `false` on a stored 500.
    """
    return {"Original-Request": request_id, "Stripe-Should-Retry": "false"}


def _replay(stored: Record) -> Response:
    headers = {
        "Content-Type": "application/json",
        "Idempotent-Replayed": "true",
        **_stored_headers(stored["request"]),
    }
    return Response(stored["status"], stored["body"].encode(), headers)


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


def _other_parameters(key: str) -> StripeError:
    return _mismatch(
        "Keys for idempotent requests can only be used with the same parameters they "
        f"were first used with. Try using a key other than '{key}' if you meant to "
        "execute a different request."
    )


def _other_endpoint(key: str, path: str, first: str) -> StripeError:
    return _mismatch(
        "Keys for idempotent requests can only be used for the same endpoint they were "
        f"first used for ('{path}' vs '{first}'). Try using a key other than '{key}' "
        "if you meant to execute a different request."
    )


def _mismatch(message: str) -> StripeError:
    return StripeError(400, message, type="idempotency_error", stored=False)
