"""Rate limits shared by all processes on all hosts through Redis."""

import time
from collections.abc import Sequence
from functools import cache

import redis
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
_TIMEOUTS = {"socket_timeout": 2, "socket_connect_timeout": 2}
#: Turns in this part of a second may be taken at once, if none were taken before.
_BURST = 0.25
#: Takes the next turn of a queue, unless it comes too late; returns the microseconds
#: until then. Redis tells the time, the same for all hosts. A turn further ahead than
#: anybody waits was taken before its clock was set back.
_TAKE_TURN = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local most, furthest = tonumber(ARGV[3]), tonumber(ARGV[4])
local turn = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now - burst)
if turn - now > 2 * furthest + interval then turn = now end
local wait = math.max(turn - now, 0)
if wait <= most then
  local next = string.format('%.0f', turn + interval)
  redis.call('SET', KEYS[1], next, 'PX', math.ceil((wait + interval) / 1000) + 1000)
end
return wait
"""


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


def take_turn(
    name: str, *, per_second: float, max_wait: float, longest_wait: float
) -> float:
    """Take the next turn of those who do something at this rate; return its delay.

    The caller waits for that many seconds, without asking again. If they are more than
    `max_wait`, no turn was taken. Others may wait up to `longest_wait`.
    """
    interval, burst = 1 / per_second, max(0.0, _BURST - 1 / per_second)
    times = (interval, burst, max_wait, longest_wait)
    micros = [int(seconds * 1_000_000) for seconds in times]
    try:
        client = _client(settings.REDIS_URL)
        delay = client.eval(_TAKE_TURN, 1, f"caravel-turn:{name}", *map(str, micros))
    except RedisError as exc:
        _log_unavailable(exc)
        return 0.0
    return int(str(delay)) / 1_000_000


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
    storage = storage_from_string(url, wrap_exceptions=True, **_TIMEOUTS)
    return MovingWindowRateLimiter(storage)


@cache
def _client(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url, **_TIMEOUTS)
