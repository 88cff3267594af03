"""What may be remembered for a while to spare a question: plain data, through Redis.

Without Redis nothing is remembered, and everything else goes on.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from django.core.cache import caches
from redis.exceptions import RedisError

logger = structlog.get_logger(__name__)


class JsonSerializer:
    """How values are kept: whoever can write to Redis is to run no code of theirs here.

    What cannot be read is nothing.
    """

    def dumps(self, value: Any) -> str:
        return json.dumps(value)

    def loads(self, kept: bytes) -> Any:
        try:
            return json.loads(kept)
        except ValueError:
            return None


def get(key: str) -> Any:
    """Return what is remembered under a key, None if nothing is."""
    return get_many([key]).get(key)


def get_many(keys: Sequence[str]) -> dict[str, Any]:
    """Return what is remembered, by key."""
    try:
        return dict(caches["shared"].get_many(keys))
    except RedisError as exc:
        _complain(exc)
        return {}


def set(key: str, value: Any, *, seconds: int) -> None:
    """Remember plain data under a key."""
    set_many({key: value}, seconds=seconds)


def set_many(values: Mapping[str, Any], *, seconds: int) -> None:
    """Remember plain data, by key."""
    try:
        caches["shared"].set_many(dict(values), seconds)
    except RedisError as exc:
        _complain(exc)


def delete(key: str) -> None:
    """Remember nothing more under a key."""
    try:
        caches["shared"].delete(key)
    except RedisError as exc:
        _complain(exc)


def _complain(error: RedisError) -> None:
    logger.warning("cache_unavailable", error=str(error))
