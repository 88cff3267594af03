"""Concurrent calls for tests."""

import threading
from collections.abc import Callable

from django.db import connection

from caravel.tests.support.waiting import LIMIT, join


def in_threads(count: int, work: Callable[[], object]) -> list[Exception]:
    """Run `work` in several threads at once; returns the exceptions raised."""
    ready = threading.Barrier(count, timeout=LIMIT)
    raised: list[Exception] = []

    def run() -> None:
        ready.wait()
        try:
            work()
        except Exception as exc:
            raised.append(exc)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    join(*threads)
    return raised
