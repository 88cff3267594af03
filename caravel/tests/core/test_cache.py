"""What is remembered through Redis."""

import os
import pickle
from pathlib import Path

import redis
from django.conf import settings
from django.core.cache import caches

from caravel.core import cache


class _Touch:
    """What a pickle can do: run a command of whoever has written it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._path}",)


def test_plain_data_is_remembered_as_it_is():
    value = {"a": [1, "ü", None, True], "b": {"c": -2.5}}

    cache.set_many({"test:1": value, "test:2": 7}, seconds=60)

    assert cache.get_many(["test:1", "test:2"]) == {"test:1": value, "test:2": 7}


def test_what_somebody_has_put_there_is_not_run(tmp_path):
    path = tmp_path / "touched"
    with redis.from_url(settings.REDIS_URL) as client:
        client.set(caches["shared"].make_key("test:evil"), pickle.dumps(_Touch(path)))

    assert cache.get("test:evil") is None
    assert not path.exists()
