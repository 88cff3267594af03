"""Rates shared by all processes on all hosts, through Redis."""

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


def wait_for(rate: RateLimitItem, *names: str) -> float:
    """Count one use of what the names stand for, if there is one left.

    Returns 0.0 then, else the seconds until there is. While Redis is away nothing is
    counted: no rate of ours is worth an outage.
    """
    try:
        limiter = _limiter(settings.REDIS_URL)
        if limiter.hit(rate, *names):
            return 0.0
        window = limiter.get_window_stats(rate, *names)
    except (StorageError, RedisError) as exc:
        logger.warning("rate_limit_unavailable", error=str(exc))
        return 0.0
    return max(window.reset_time - time.time(), 0.001)


@cache
def _limiter(redis_url: str) -> MovingWindowRateLimiter:
    # The library's spelling of a socket address. It looks for redis by importing it,
    # which several threads must not do at once: we have imported it above.
    url = redis_url.replace("unix://", "redis+unix://", 1)
    timeouts = {"socket_timeout": 2, "socket_connect_timeout": 2}
    storage = storage_from_string(url, wrap_exceptions=True, **timeouts)
    return MovingWindowRateLimiter(storage)
