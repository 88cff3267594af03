"""Scheduled actions of wallets, by `time.time()`, so that a moved clock counts."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

Action = Callable[[], object]


class Schedule:
    """Actions by due time, run by the callers of `run_due`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Action]] = []

    def after(self, seconds: float, action: Action) -> None:
        """Run an action after some seconds; at once if there are none."""
        if seconds <= 0:
            action()
            return
        entry = (time.time() + seconds, next(self._order), action)
        with self._lock:
            heapq.heappush(self._waiting, entry)

    def run_due(self) -> int:
        """Run due actions in order; return how many there were."""
        count = 0
        while (action := self._pop()) is not None:
            action()
            count += 1
        return count

    @property
    def waiting(self) -> int:
        """The number of actions that are not due yet."""
        with self._lock:
            return len(self._waiting)

    def _pop(self) -> Action | None:
        with self._lock:
            if self._waiting and self._waiting[0][0] <= time.time():
                return heapq.heappop(self._waiting)[2]
        return None
