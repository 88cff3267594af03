"""How one call to Stripe is made: its time-out, its tries, and what its failure means.

Every call takes one token of the shared rate limit a try, and retries what may pass:
no answer, 429, 5xx. What remains is raised as one of three things we may know of a
call: it had no effect, it may have had one, it was turned away.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, TypeVar, cast

import stripe
from django.conf import settings

from billing import exceptions
from billing.clients.stripe.rate_limit import acquire
from caravel.core.db.transactions import release_connection

API_VERSION = "2026-10-28.endive"
TRIES = 3
#: Seconds: to connect, and between two bytes of an answer.
TIMEOUT = (2.0, 20.0)
#: The same while a person waits, who presses again rather than wait for another try.
HURRIED_TIMEOUT = (2.0, 6.0)
#: A longer Retry-After is left to the caller's own retry.
LONGEST_PAUSE = 10.0

#: How a pause is made, unless the caller has another way.
pause_for: Callable[[float], None] = time.sleep

T = TypeVar("T")
_is_hurried: ContextVar[bool] = ContextVar("is_hurried", default=False)


@contextmanager
def interactive() -> Iterator[None]:
    """Give Stripe one try, and less time for it: somebody waits for what is done here.

    A write is in doubt as after any other silence; whoever made it finds out later.
    """
    token = _is_hurried.set(True)
    try:
        yield
    finally:
        _is_hurried.reset(token)


class StripeTransport:
    """What all calls have in common.

    `before_try` runs before every single request, and may raise to prevent it.
    """

    def __init__(
        self,
        *,
        before_try: Callable[[], None] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._before_try = before_try or (lambda: None)
        self._sleep = sleep or pause_for

    def _call(self, call: Callable[[], T]) -> T:
        """Make a call, trying again what may pass.

        A try that may have had its effect outweighs whatever the later ones say: a
        429, or a refusal by somebody who did not see the first.
        """
        unknown: exceptions.StripeUnavailable | None = None
        for attempt in itertools.count(1):
            try:
                return self._try(call)
            except exceptions.StripeError as error:
                if isinstance(error, exceptions.StripeUnavailable):
                    unknown = error
                pause = _pause(error, attempt)
                if pause is None and unknown:
                    raise unknown from error
                if pause is None:
                    raise
            self._sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

    def _try(self, call: Callable[[], T]) -> T:
        acquire(sleep=self._sleep)
        self._before_try()
        release_connection()
        try:
            return call()
        except stripe.StripeError as exc:
            raise _translated(exc) from exc

    def _pages(self, fetch: Callable[[Any], Any], params: Any) -> Iterator[Any]:
        while True:
            page = self._call(partial(fetch, params))
            yield from page.data
            if not page.has_more:
                return
            params = {**params, "starting_after": page.data[-1].id}


def is_live_key() -> bool:
    """Return whether our key works on real money."""
    return "_live_" in settings.STRIPE_SECRET_KEY


def v1() -> stripe.V1Services:
    """Return the SDK's services, for our account."""
    timeout = HURRIED_TIMEOUT if _is_hurried.get() else TIMEOUT
    return _client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE, timeout).v1


@cache
def _client(key: str, base: str, timeout: tuple[float, float]) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        stripe_version=API_VERSION,
        base_addresses={"api": base},
        # The SDK never retries a 429 and ignores Retry-After: ours does both.
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=cast(Any, timeout)),
    )


def with_idempotency_key(params: Mapping[str, Any], key: str) -> tuple[Any, Any]:
    """Return parameters and options of a write that happens once per key."""
    return dict(params), {"idempotency_key": key}


#: What the SDK raises for a 4xx with an error of Stripe's in it. An unreadable answer,
#: whatever its status, is none: somebody else may have written it.
_REFUSALS = (
    stripe.InvalidRequestError,
    stripe.CardError,
    stripe.AuthenticationError,
    stripe.PermissionError,
    stripe.IdempotencyError,
)


def _translated(exc: stripe.StripeError) -> exceptions.StripeError:
    if isinstance(exc, stripe.RateLimitError):
        return exceptions.StripeRateLimited(
            _message(exc), retry_after=_retry_after(exc)
        )
    if not isinstance(exc, _REFUSALS) or exc.http_status == 409:
        return exceptions.StripeUnavailable(
            _message(exc), retry_after=_retry_after(exc)
        )
    return _refusal(exc)


def _refusal(exc: stripe.StripeError) -> exceptions.StripeRefused:
    details = {
        "type": getattr(exc.error, "type", None) or "",
        "stripe_code": exc.code or "",
        "param": getattr(exc, "param", None) or "",
    }
    if isinstance(exc, stripe.CardError):
        return exceptions.StripeCardRefused(
            _message(exc),
            decline_code=getattr(exc.error, "decline_code", None) or "",
            advice_code=getattr(exc.error, "advice_code", None) or "",
            **details,
        )
    if isinstance(exc, stripe.IdempotencyError):
        return exceptions.StripeReusedKey(_message(exc), **details)
    if exc.http_status == 404:
        return exceptions.StripeNotFound(_message(exc), **details)
    return exceptions.StripeRefused(_message(exc), **details)


def _message(exc: stripe.StripeError) -> str:
    """Return what Stripe said; never a body that it could not have meant for us."""
    if isinstance(exc, stripe.APIConnectionError):
        return str(exc)
    if exc.error is None:
        return f"An answer with status {exc.http_status} that is not Stripe's."
    return exc.user_message or type(exc).__name__


def _retry_after(exc: stripe.StripeError) -> float:
    asked = str((exc.headers or {}).get("retry-after", ""))
    return float(asked) if asked.isdecimal() else 0.0


def _pause(error: exceptions.StripeError, attempt: int) -> float | None:
    """Return the seconds to wait before the next try, or None for no other try."""
    passing = isinstance(
        error, exceptions.StripeUnavailable | exceptions.StripeRateLimited
    )
    last = 1 if _is_hurried.get() else TRIES
    if not passing or attempt == last or error.retry_after > LONGEST_PAUSE:
        return None
    backoff = float(2 ** (attempt - 2)) * random.uniform(1, 1.5)
    return error.retry_after or backoff
