"""Best-effort cache of JSON data in Redis, shared by all processes.

While Redis is down every read is a miss and writes are dropped.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from django.core.cache import caches
from redis.exceptions import RedisError

logger = structlog.get_logger(__name__)


class JsonSerializer:
    """Serializer of Django's Redis cache; values it cannot read are None."""

    # Not pickle: write access to Redis must not allow running code in our processes.

    def dumps(self, value: Any) -> str:
        return json.dumps(value)

    def loads(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except ValueError:
            return None


def get(key: str) -> Any:
    """Return the cached value, or None."""
    return get_many([key]).get(key)


def get_many(keys: Sequence[str]) -> dict[str, Any]:
    """Return the cached values by key, without the missing ones."""
    try:
        return dict(caches["shared"].get_many(keys))
    except RedisError as exc:
        _log_unavailable(exc)
        return {}


def set(key: str, value: Any, *, seconds: int) -> None:
    """Cache JSON data for some seconds."""
    set_many({key: value}, seconds=seconds)


def set_many(values: Mapping[str, Any], *, seconds: int) -> None:
    """Cache JSON data by key for some seconds."""
    try:
        caches["shared"].set_many(dict(values), seconds)
    except RedisError as exc:
        _log_unavailable(exc)


def add(key: str, value: Any, *, seconds: int) -> bool:
    """Cache a value unless the key has one; return whether it had none."""
    try:
        return bool(caches["shared"].add(key, value, seconds))
    except RedisError as exc:
        _log_unavailable(exc)
        return True


def count(key: str, *, seconds: int) -> int:
    """Increment a counter that lasts some seconds; return it, 0 without Redis."""
    try:
        caches["shared"].add(key, 0, seconds)
        return int(caches["shared"].incr(key))
    except (RedisError, ValueError) as exc:
        _log_unavailable(exc)
        return 0


def delete(key: str) -> None:
    """Remove a cached value."""
    try:
        caches["shared"].delete(key)
    except RedisError as exc:
        _log_unavailable(exc)


def _log_unavailable(error: Exception) -> None:
    logger.warning("cache_unavailable", error=str(error))
