"""What wallets do later, by `time.time()`, so that travelled time counts."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

Action = Callable[[], None]


class Schedule:
    """Actions by their time; whoever calls `run_due` runs them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._order = itertools.count()
        self._waiting: list[tuple[float, int, Action]] = []

    def after(self, seconds: float, action: Action) -> None:
        """Run an action in so many seconds, at once with none."""
        if seconds <= 0:
            action()
            return
        entry = (time.time() + seconds, next(self._order), action)
        with self._lock:
            heapq.heappush(self._waiting, entry)

    def run_due(self) -> int:
        """Run what is due, in order; return how many actions that were."""
        count = 0
        while (action := self._pop()) is not None:
            action()
            count += 1
        return count

    @property
    def waiting(self) -> int:
        """How many actions wait for their time."""
        with self._lock:
            return len(self._waiting)

    def _pop(self) -> Action | None:
        with self._lock:
            if self._waiting and self._waiting[0][0] <= time.time():
                return heapq.heappop(self._waiting)[2]
        return None
