"""Scheduled actions of wallets, by `time.time()`, so that a moved clock counts."""

import sched
import time
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
