"""Rate limits shared by all processes on all hosts through Redis."""

import time
from collections.abc import Sequence
from functools import cache

import structlog
from django.conf import settings
from limits import RateLimitItem
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

logger = structlog.get_logger(__name__)

#: A rate limit and the name that it counts.
NamedRate = tuple[RateLimitItem, str]
_MAX_TRIES = 3


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
        _log_unavailable(exc)
        return 0.0
    return max(window.reset_time - time.time(), 0.001)


def allowed_hits(wanted: int, rates: Sequence[NamedRate]) -> int:
    """Return how many hits, up to `wanted`, all of these rate limits allow now."""
    try:
        limiter = _limiter(settings.REDIS_URL)
        return min(wanted, *(limiter.get_window_stats(*r).remaining for r in rates))
    except (StorageError, RedisError) as exc:
        _log_unavailable(exc)
        return wanted


def hit_up_to(wanted: int, rates: Sequence[NamedRate]) -> int:
    """Count as many hits, up to `wanted`, as all of these rate limits allow.

    Returns their number. Name the lowest rate first: its hits are lost for one window
    if another process uses up the next rate at the same moment.
    """
    for _ in range(_MAX_TRIES):
        allowed = allowed_hits(wanted, rates)
        if not allowed or _hit_all(allowed, rates):
            return allowed
    return 0


def _hit_all(hits: int, rates: Sequence[NamedRate]) -> bool:
    try:
        limiter = _limiter(settings.REDIS_URL)
        return all(limiter.hit(*rate, cost=hits) for rate in rates)
    except (StorageError, RedisError) as exc:
        _log_unavailable(exc)
        return True


def _log_unavailable(error: Exception) -> None:
    # Without Redis every hit is allowed: no rate limit is worth an outage.
    logger.warning("rate_limit_unavailable", error=str(error))


@cache
def _limiter(redis_url: str) -> MovingWindowRateLimiter:
    # The library's form of a Unix socket's URL. The library also imports redis when a
    # storage is created, which is not thread-safe: redis is imported above already.
    url = redis_url.replace("unix://", "redis+unix://", 1)
    timeouts = {"socket_timeout": 2, "socket_connect_timeout": 2}
    storage = storage_from_string(url, wrap_exceptions=True, **timeouts)
    return MovingWindowRateLimiter(storage)
