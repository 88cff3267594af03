"""Rate limit of the account (docs: Rate limits)."""

import threading
import time
from collections import deque
from collections.abc import Callable

from sandbox.stripe.api.errors import StripeError

WINDOW = 1.0
# Assumed: the docs page does not mention Retry-After, but Stripe's SDKs obey it. There
# is no Stripe-Should-Retry: "false" would contradict Retry-After, and "true" would make
# the SDK retry, while Stripe wants the application to handle rate limits.
HEADERS = {"Retry-After": "1", "Stripe-Rate-Limited-Reason": "global-rate"}


class RateLimit:
    """Counter of the requests in the last second of real time. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._times: deque[float] = deque()

    def take(self, limit: int | None) -> None:
        """Count a request. Raises a 429 `rate_limit` when the limit is exceeded.

        The error is not stored under an idempotency key: rate limiters run before that
        layer (docs: Advanced error handling).
        """
        if limit is None:
            return
        with self._lock:
            now = self._monotonic()
            while self._times and self._times[0] <= now - WINDOW:
                self._times.popleft()
            if len(self._times) >= limit:
                raise StripeError(
                    429,
                    "Request rate limit exceeded. Learn more about rate limits here "
                    "https://stripe.com/docs/rate-limits.",
                    code="rate_limit",
                    headers=HEADERS,
                    stored=False,
                )
            self._times.append(now)
