"""Rate limits shared by all processes on all hosts through Redis."""

import time
from functools import cache

import structlog
from django.conf import settings
from limits import RateLimitItem
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

logger = structlog.get_logger(__name__)


def delay_after_hit(rate: RateLimitItem, *names: str) -> float:
    """Count a hit against the rate limit of these names.

    Returns 0.0 if the hit is allowed. Otherwise it is not counted, and the result is
    the number of seconds to wait.
    """
    try:
        limiter = _limiter(settings.REDIS_URL)
        if limiter.hit(rate, *names):
            return 0.0
        window = limiter.get_window_stats(rate, *names)
    except (StorageError, RedisError) as exc:
        # Without Redis every hit is allowed: no rate limit is worth an outage.
        logger.warning("rate_limit_unavailable", error=str(exc))
        return 0.0
    return max(window.reset_time - time.time(), 0.001)


@cache
def _limiter(redis_url: str) -> MovingWindowRateLimiter:
    # The library's form of a Unix socket's URL. The library also imports redis when a
    # storage is created, which is not thread-safe: redis is imported above already.
    url = redis_url.replace("unix://", "redis+unix://", 1)
    timeouts = {"socket_timeout": 2, "socket_connect_timeout": 2}
    storage = storage_from_string(url, wrap_exceptions=True, **timeouts)
    return MovingWindowRateLimiter(storage)
