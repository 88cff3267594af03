"""One rate of Stripe requests, shared by all workers on all hosts."""

import time
from collections.abc import Callable

from django.conf import settings
from limits import RateLimitItemPerSecond

from billing.exceptions import StripeRateLimited
from caravel.core.rate_limit import delay_after_hit

#: Seconds that a call waits for its turn before the task is tried later instead.
LONGEST_WAIT = 15.0
_PAUSE = 0.05


def acquire(*, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait for the next free request of this second.

    Raises StripeRateLimited after LONGEST_WAIT. While Redis is away calls go on
    unlimited: the rate is a courtesy, and Stripe's own 429 still holds.
    """
    deadline = time.monotonic() + LONGEST_WAIT
    while not _hit():
        if time.monotonic() > deadline:
            raise StripeRateLimited(
                "Too many requests to Stripe are waiting.", retry_after=LONGEST_WAIT
            )
        sleep(_PAUSE)


def _hit() -> bool:
    rate = RateLimitItemPerSecond(settings.STRIPE_MAX_REQUESTS_PER_SECOND)
    return not delay_after_hit(rate, "stripe")
