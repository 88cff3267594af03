"""Scheduled actions and rate limits, by `time.time()`, so that a moved clock counts."""

import sched
import time
from collections import defaultdict
from collections.abc import Callable


class Schedule:
    """Actions by due time, run by the callers of `run_due`."""

    def __init__(self) -> None:
        self._scheduler = sched.scheduler(time.time)

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Run an action after some seconds; at once if there are none."""
        if seconds > 0:
            self._scheduler.enter(seconds, 0, action)
        else:
            action()

    def run_due(self) -> None:
        """Run due actions in order."""
        self._scheduler.run(blocking=False)

    @property
    def waiting(self) -> int:
        """The number of actions that are not due yet."""
        return len(self._scheduler.queue)


class Paces:
    """The requests of each client in the last minute."""

    def __init__(self) -> None:
        self._times: dict[str, list[float]] = defaultdict(list)

    def is_exceeded(self, client: str, limit: int | None) -> bool:
        """Count a request, unless the client has made `limit` of them already."""
        if limit is None:
            return False
        now = time.time()
        times = [at for at in self._times[client] if now - 60 < at <= now]
        is_exceeded = len(times) >= limit
        self._times[client] = times if is_exceeded else [*times, now]
        return is_exceeded
