"""Idempotency keys (docs: API reference, Idempotent requests)."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sandbox.stripe.protocol.errors import StripeError, rejected
from sandbox.stripe.protocol.http import Request, Response, dump_json
from sandbox.stripe.store import Record, Store

KIND = "_answer"
LIFETIME = 86_400
LONGEST_KEY = 255
# A conflict or a rate limit says that nothing was executed.
NOT_KEPT = frozenset({409, 429})


def key_of(request: Request) -> str | None:
    """Return the key of a POST, None for other methods. Raises a 400 when too long."""
    if request.method != "POST":
        return None
    key = request.headers.get("idempotency-key")
    if key and len(key) > LONGEST_KEY:
        raise rejected(
            f"Idempotency keys can be at most {LONGEST_KEY} characters long.",
            param="Idempotency-Key",
        )
    return key or None


class Answers:
    """First answers by key, and the keys whose request is still being executed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._in_flight: set[str] = set()

    def begin(
        self, key: str, path: str, params: Mapping[str, Any], now: int
    ) -> Response | None:
        """Return the stored answer, or None after marking the key as in flight.

        Raises 409 `idempotency_key_in_use`, or 400 when the request differs.
        """
        if key in self._in_flight:
            raise _in_use(key)
        answer = self._store.get(KIND, key)
        if answer is None or answer["created"] + LIFETIME <= now:
            self._in_flight.add(key)
            return None
        if answer["path"] != path:
            raise _other_endpoint(key, path, answer["path"])
        if answer["fingerprint"] != fingerprint(params):
            raise _other_parameters(key)
        return _replay(answer)

    def keep(
        self, key: str, path: str, params: Mapping[str, Any], answer: Response, now: int
    ) -> Response:
        """Store the first answer, in the transaction that did the work.

        Returns it with the headers that say so.
        """
        if answer.status in NOT_KEPT:
            return answer
        request_id = answer.headers.get("Request-Id", "")
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
                "status": answer.status,
                "body": answer.body.decode(),
                "request": request_id,
            },
        )
        headers = {**answer.headers, **_kept(request_id)}
        return replace(answer, headers=headers)

    def end(self, key: str) -> None:
        """Say that the request is no longer being executed."""
        self._in_flight.discard(key)


def fingerprint(params: Mapping[str, Any]) -> str:
    """Return a digest of the parameters, whatever their order."""
    ordered = dump_json(_sorted(params))
    return hashlib.sha256(ordered.encode()).hexdigest()


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return value


def _kept(request_id: str) -> dict[str, str]:
    """Return what marks a stored answer: asking again would give it once more.

    Source: headers of answers in issue reports; the SDK's `_should_retry` expects
    `false` on a stored 500.
    """
    return {"Original-Request": request_id, "Stripe-Should-Retry": "false"}


def _replay(answer: Record) -> Response:
    headers = {
        "Content-Type": "application/json",
        "Idempotent-Replayed": "true",
        **_kept(answer["request"]),
    }
    return Response(answer["status"], answer["body"].encode(), headers)


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
