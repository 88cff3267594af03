"""The rate of requests to Stripe, shared by all workers on all hosts."""

import time
from collections.abc import Callable

from django.conf import settings
from limits import RateLimitItemPerSecond

from billing.clients.stripe.errors import StripeRateLimited
from caravel.core.rate_limit import delay_after_hit

#: Seconds that a call waits before it fails and its task is retried later.
MAX_WAIT = 15.0
_PAUSE = 0.05


def acquire(*, sleep: Callable[[float], None] = time.sleep) -> None:
    """Take one request from the rate limit, waiting for the next second if needed.

    Raises StripeRateLimited after MAX_WAIT. Without Redis there is no limit: Stripe's
    own 429 still applies, and no rate limit of ours is worth an outage.
    """
    deadline = time.monotonic() + MAX_WAIT
    while not _hit():
        if time.monotonic() > deadline:
            raise StripeRateLimited(
                "Too many requests to Stripe are waiting.", retry_after=MAX_WAIT
            )
        sleep(_PAUSE)


def _hit() -> bool:
    rate = RateLimitItemPerSecond(settings.STRIPE_MAX_REQUESTS_PER_SECOND)
    return not delay_after_hit(rate, "stripe")
