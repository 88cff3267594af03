"""The JSON cache in Redis."""

import os
import pickle
from pathlib import Path

import redis
from django.conf import settings
from django.core.cache import caches

from caravel.core import cache


class _Touch:
    """Object whose pickle runs a command when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._path}",)


def test_json_data_is_cached_unchanged():
    value = {"a": [1, "ü", None, True], "b": {"c": -2.5}}

    cache.set_many({"test:1": value, "test:2": 7}, seconds=60)

    assert cache.get_many(["test:1", "test:2"]) == {"test:1": value, "test:2": 7}


def test_pickle_in_redis_is_a_miss_and_not_executed(tmp_path):
    path = tmp_path / "touched"
    with redis.from_url(settings.REDIS_URL) as client:
        client.set(caches["shared"].make_key("test:evil"), pickle.dumps(_Touch(path)))

    assert cache.get("test:evil") is None
    assert not path.exists()
