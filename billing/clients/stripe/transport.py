"""Calls to Stripe: timeout, rate limit, retries and error translation.

Each try takes one token of the shared rate limit. Timeouts, 429 and 5xx are retried.
A final failure says what is known: the call had no effect (StripeRefused), it may have
had one (StripeUnavailable; StripeUnreadable if the answer cannot be read), or it was
never executed (StripeNotExecuted).
"""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, TypeVar, cast

import stripe
from django.conf import settings

from billing.clients.stripe import errors
from billing.clients.stripe.rate_limit import acquire
from billing.clients.stripe.types import RawObject
from billing.clients.stripe.types.subscriptions import UNREADABLE_ERRORS
from caravel.core.db.transactions import release_connection

API_VERSION = "2026-10-28.endive"
TRIES = 3
#: Seconds to connect, and to wait for the next byte of the response.
TIMEOUT = (2.0, 20.0)
#: The same while a person waits for the page.
INTERACTIVE_TIMEOUT = (2.0, 6.0)
#: A longer Retry-After is left to the caller's own retry.
MAX_PAUSE = 10.0

#: Sleeps between two tries; tests replace it.
pause_for: Callable[[float], None] = time.sleep
#: Raises StripeNotExecuted unless the key is one of the database's account; `billing`
#: sets it, since clients do not know the database.
check_account: Callable[[], None] | None = None

T = TypeVar("T")
_is_interactive: ContextVar[bool] = ContextVar("is_interactive", default=False)


@contextmanager
def interactive() -> Iterator[None]:
    """Make calls in this block with one try and a short timeout: a person waits.

    A write that times out is unresolved, as after any other timeout.
    """
    token = _is_interactive.set(True)
    try:
        yield
    finally:
        _is_interactive.reset(token)


class StripeTransport:
    """Sends calls, with retries.

    `before_try` runs before each request and may raise to prevent it. No call but that
    for the account itself is made to another account than the database's.
    """

    def __init__(
        self,
        *,
        before_try: Callable[[], None] | None = None,
        sleep: Callable[[float], None] | None = None,
        checks_account: bool = True,
    ) -> None:
        self._before_try = before_try or (lambda: None)
        self._sleep = sleep or pause_for
        self._checks_account = checks_account

    def call(self, call: Callable[[], Any], read: Callable[[Any], T]) -> T:
        """Make a call and read the answer, retrying timeouts, 429 and 5xx.

        If one try may have had its effect, StripeUnavailable is raised whatever the
        later tries answer: a 429 or a 4xx says nothing about the first try.
        """
        if self._checks_account and check_account:
            check_account()
        unknown: errors.StripeUnavailable | None = None
        for attempt in itertools.count(1):
            try:
                return self._try(call, read)
            except errors.StripeError as error:
                if isinstance(error, errors.StripeUnavailable):
                    unknown = error
                pause = _retry_delay(error, attempt)
                if pause is None and unknown:
                    raise unknown from error
                if pause is None:
                    raise
            self._sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

    def _try(self, call: Callable[[], Any], read: Callable[[Any], T]) -> T:
        # Before the wait for our turn, which takes longer than the call.
        release_connection()
        acquire(interactive=_is_interactive.get(), sleep=self._sleep)
        self._before_try()
        release_connection()
        try:
            answer = call()
        except stripe.StripeError as exc:
            raise _to_stripe_error(exc) from exc
        try:
            return read(answer)
        except UNREADABLE_ERRORS as exc:
            raise errors.StripeUnreadable(f"Unreadable answer: {exc!r}") from exc

    def paginate(
        self, fetch: Callable[[Any], Any], params: Any, read: Callable[[Any], T]
    ) -> Iterator[T]:
        """Yield the objects of a list, each as `read` returns it."""
        read_page = partial(_read_page, read)
        while True:
            found, last_id = self.call(partial(fetch, params), read_page)
            yield from found
            if not last_id:
                return
            params = {**params, "starting_after": last_id}


def read_nothing(answer: Any) -> None:
    """Ignore the answer of a call."""


def _read_page(read: Callable[[Any], T], page: Any) -> tuple[list[T], str]:
    """Return the objects of a page, and the last one's id if there are more pages."""
    return list(map(read, page.data)), page.data[-1].id if page.has_more else ""


def is_live_key() -> bool:
    """Return whether our secret key is a live-mode key."""
    return "_live_" in settings.STRIPE_SECRET_KEY


def v1() -> stripe.V1Services:
    """Return the SDK's services for our account."""
    return _client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE, _timeout()).v1


def get_raw(path: str, params: Mapping[str, Any]) -> RawObject:
    """Return the answer to a GET, without making objects of the SDK of it.

    https://docs.stripe.com/sdks/server-side-rest-api#custom-requests
    """
    key, base = settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE
    client = _client(key, base, _timeout())
    return RawObject(client.raw_request("get", path, **params).data)


@contextmanager
def unshared_v1() -> Iterator[stripe.V1Services]:
    """Yield the same services on a connection that is closed at the end.

    A process that forks later would share the connections of `v1` with its children.
    """
    with closing(_http_client(_timeout())) as http:
        key, base = settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE
        yield _new_client(key, base, http).v1


def _timeout() -> tuple[float, float]:
    return INTERACTIVE_TIMEOUT if _is_interactive.get() else TIMEOUT


@cache
def _client(key: str, base: str, timeout: tuple[float, float]) -> stripe.StripeClient:
    return _new_client(key, base, _http_client(timeout))


def _new_client(key: str, base: str, http: stripe.HTTPClient) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        stripe_version=API_VERSION,
        base_addresses={"api": base},
        # The SDK never retries a 429 and ignores Retry-After; call() handles both.
        max_network_retries=0,
        http_client=http,
    )


def _http_client(timeout: tuple[float, float]) -> stripe.RequestsClient:
    return stripe.RequestsClient(timeout=cast(Any, timeout))


def with_idempotency_key(params: Mapping[str, Any], key: str) -> tuple[Any, Any]:
    """Return the parameters and options of a write that takes effect once per key."""
    return dict(params), {"idempotency_key": key}


#: The SDK's errors for a 4xx with an error object. A response without one, whatever its
#: status, may come from a proxy and says nothing about the call.
_REFUSALS = (
    stripe.InvalidRequestError,
    stripe.CardError,
    stripe.AuthenticationError,
    stripe.PermissionError,
    stripe.IdempotencyError,
)


def _to_stripe_error(exc: stripe.StripeError) -> errors.StripeError:
    if isinstance(exc, stripe.RateLimitError):
        return errors.StripeRateLimited(_message(exc), retry_after=_retry_after(exc))
    if not isinstance(exc, _REFUSALS) or exc.http_status == 409:
        return errors.StripeUnavailable(_message(exc), retry_after=_retry_after(exc))
    return _refusal(exc)


def _refusal(exc: stripe.StripeError) -> errors.StripeRefused:
    details = {
        "type": getattr(exc.error, "type", None) or "",
        "stripe_code": exc.code or "",
        "param": getattr(exc, "param", None) or "",
    }
    if isinstance(exc, stripe.CardError):
        return errors.StripeCardRefused(
            _message(exc),
            decline_code=getattr(exc.error, "decline_code", None) or "",
            advice_code=getattr(exc.error, "advice_code", None) or "",
            **details,
        )
    if isinstance(exc, stripe.IdempotencyError):
        return errors.StripeReusedKey(_message(exc), **details)
    if exc.http_status == 404:
        return errors.StripeNotFound(_message(exc), **details)
    return errors.StripeRefused(_message(exc), **details)


def _message(exc: stripe.StripeError) -> str:
    """Return Stripe's message; never the body of a response that is not Stripe's."""
    if isinstance(exc, stripe.APIConnectionError):
        return str(exc)
    if exc.error is None:
        return f"A response with status {exc.http_status} that is not from Stripe."
    return exc.user_message or type(exc).__name__


def _retry_after(exc: stripe.StripeError) -> float:
    asked = str((exc.headers or {}).get("retry-after", ""))
    return float(asked) if asked.isdecimal() else 0.0


def _retry_delay(error: errors.StripeError, attempt: int) -> float | None:
    """Return the seconds until the next try, or None if there is none."""
    is_temporary = isinstance(
        error, errors.StripeUnavailable | errors.StripeRateLimited
    ) and not isinstance(error, errors.StripeUnreadable)
    last = 1 if _is_interactive.get() else TRIES
    if not is_temporary or attempt == last or error.retry_after > MAX_PAUSE:
        return None
    backoff = float(2 ** (attempt - 2)) * random.uniform(1, 1.5)
    return error.retry_after or backoff
