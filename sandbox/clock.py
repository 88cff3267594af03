"""One clock for all processes on this machine, which can jump months ahead.

The sandbox Stripe's clock leads: a file holds its offset from real time, and each
process that knows the file follows it, including the children it forks. Durations are
unchanged: a five second sleep takes five seconds.
"""

import os
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import time_machine

#: The environment variable that names the file.
VARIABLE = "SANDBOX_CLOCK"
#: Seconds between two reads of the file.
POLL_INTERVAL = 0.02


def write_offset(path: Path, seconds: float) -> None:
    """Set how many seconds the clock is ahead of real time."""
    # Replaced in one step: a follower never reads a half-written file.
    draft = path.with_suffix(".draft")
    draft.write_text(str(seconds))
    draft.replace(path)


def read_offset(path: Path) -> timedelta:
    """Return how far the clock is ahead of real time; zero without a file."""
    text = path.read_text() if path.exists() else "0"
    return timedelta(seconds=float(text))


def follow(path: Path) -> None:
    """Apply the file's offset to the time of this process and its forked children."""
    _Follower(path)


def follow_from_environment() -> None:
    """Follow the file named by the environment variable, if it is set."""
    if name := os.environ.get(VARIABLE):
        follow(Path(name))


def _import_travel() -> "type[time_machine.travel]":
    """Return time_machine's `travel`, imported by followers only and without pytest.

    If that is installed time_machine imports it for its fixture, which takes longer
    than all the rest.
    """
    unwanted = "pytest" not in sys.modules
    if unwanted:
        sys.modules["pytest"] = None  # type: ignore[assignment]
    try:
        from time_machine import travel
    finally:
        if unwanted:
            del sys.modules["pytest"]
    return travel


class _Follower:
    """Keeps the offset of this process's time equal to the file's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = read_offset(path)
        travel = _import_travel()
        # Nothing slow from here to the start: the process would stay behind by it.
        start = datetime.now().astimezone() + self._offset
        self._travel = travel(start).start()
        # Time only runs from the first call on: without one, a process that is idle at
        # first would stay behind the others.
        time.time()
        self._watch()
        # Threads do not survive a fork: each child needs its own.
        os.register_at_fork(after_in_child=self._watch)

    def _watch(self) -> None:
        threading.Thread(target=self._poll, name="clock", daemon=True).start()

    def _poll(self) -> None:
        while True:
            offset = read_offset(self._path)
            if offset != self._offset:
                self._travel.shift(offset - self._offset)
                self._offset = offset
            time.sleep(POLL_INTERVAL)
