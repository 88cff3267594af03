"""One clock for all processes of the demo, which moves months ahead in seconds.

A file says how far ahead of real time it is. Each process that is told of the file
follows it, those that it forks too. Durations are not touched: what waits five seconds
waits five seconds.
"""

import os
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import time_machine

#: The environment variable that names the file.
VARIABLE = "SANDBOX_CLOCK"
_POLL = 0.02


class Clock:
    """The clock that a file keeps, for who moves it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def move(self, delta: timedelta) -> None:
        """Let so much time pass, everywhere."""
        ahead = ahead_by(self._path) + delta
        draft = self._path.with_suffix(".draft")
        draft.write_text(str(ahead.total_seconds()))
        draft.replace(self._path)
        # Every process looks this often; then all agree.
        time.sleep(5 * _POLL)


def ahead_by(path: Path) -> timedelta:
    """Return how far the clock is ahead of real time."""
    text = path.read_text() if path.exists() else "0"
    return timedelta(seconds=float(text))


def follow_if_told() -> None:
    """Follow the clock that the environment names, if it does."""
    if name := os.environ.get(VARIABLE):
        _Follower(Path(name))


class _Follower:
    """Keeps this process's time as far ahead as the file says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ahead = ahead_by(path)
        start = datetime.now().astimezone() + self._ahead
        self._traveller = time_machine.travel(start).start()
        self._watch()
        os.register_at_fork(after_in_child=self._watch)

    def _watch(self) -> None:
        threading.Thread(target=self._poll, name="clock", daemon=True).start()

    def _poll(self) -> None:
        while True:
            ahead = ahead_by(self._path)
            if ahead != self._ahead:
                self._traveller.shift(ahead - self._ahead)
                self._ahead = ahead
            time.sleep(_POLL)
