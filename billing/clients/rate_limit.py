"""One rate of Stripe requests, shared by all workers on all hosts through Redis."""

import time
from collections.abc import Callable
from functools import cache

import structlog
from django.conf import settings
from limits import RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

from billing.exceptions import StripeRateLimited

logger = structlog.get_logger(__name__)

#: Seconds that a call waits for its turn before the task is tried later instead.
LONGEST_WAIT = 15.0
_PAUSE = 0.05


def take_token(*, sleep: Callable[[float], None] = time.sleep) -> None:
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
    try:
        return _limiter(settings.REDIS_URL).hit(rate, "stripe")
    except (StorageError, RedisError) as exc:
        logger.warning("rate_limit_unavailable", error=str(exc))
        return True


@cache
def _limiter(redis_url: str) -> MovingWindowRateLimiter:
    # The library's spelling of a socket address. It looks for redis by importing it,
    # which several threads must not do at once: we have imported it above.
    url = redis_url.replace("unix://", "redis+unix://", 1)
    timeouts = {"socket_timeout": 2, "socket_connect_timeout": 2}
    storage = storage_from_string(url, wrap_exceptions=True, **timeouts)
    return MovingWindowRateLimiter(storage)
