"""The account's rate limit (docs: Rate limits)."""

import threading
import time
from collections import deque
from collections.abc import Callable

from sandbox.stripe.protocol.errors import StripeError

WINDOW = 1.0
# Assumed: the page names no Retry-After, but Stripe's SDKs obey one. By the rule that
# they are written to, it never comes with a `Stripe-Should-Retry` of false; nor with
# true, since Stripe wants rate limits handled by the application.
HEADERS = {"Retry-After": "1", "Stripe-Rate-Limited-Reason": "global-rate"}


class RateLimit:
    """Counts the requests of the last second, in real time; thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._taken: deque[float] = deque()

    def take(self, limit: int | None) -> None:
        """Count a request. Raises a 429 `rate_limit` for one too many.

        No idempotency key keeps that answer: limiters run before that layer (docs:
        Advanced error handling).
        """
        if limit is None:
            return
        with self._lock:
            now = self._monotonic()
            while self._taken and self._taken[0] <= now - WINDOW:
                self._taken.popleft()
            if len(self._taken) >= limit:
                raise _exceeded()
            self._taken.append(now)


def _exceeded() -> StripeError:
    return StripeError(
        429,
        "Request rate limit exceeded. Learn more about rate limits here "
        "https://stripe.com/docs/rate-limits.",
        code="rate_limit",
        headers=HEADERS,
        stored=False,
    )
