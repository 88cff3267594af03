"""One clock for all processes on this machine, which may move months ahead at once.

The sandbox Stripe's clock leads: a file says how far it is ahead of real time. Each
process that is told of the file follows it, those that it forks too. Durations are not
touched: what waits five seconds waits five seconds.
"""

import os
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import time_machine

#: The environment variable that names the file.
VARIABLE = "SANDBOX_CLOCK"
#: Seconds between two looks at it.
POLL = 0.02


def lead(path: Path, ahead: float) -> None:
    """Say that the clock is so many seconds ahead of real time."""
    draft = path.with_suffix(".draft")
    draft.write_text(str(ahead))
    draft.replace(path)


def ahead_by(path: Path) -> timedelta:
    """Return how far the clock is ahead of real time."""
    text = path.read_text() if path.exists() else "0"
    return timedelta(seconds=float(text))


def follow(path: Path) -> None:
    """Let this process's time, and that of those it forks, be what the file says."""
    _Follower(path)


def follow_if_told() -> None:
    """Follow the file that the environment names, if it does."""
    if name := os.environ.get(VARIABLE):
        follow(Path(name))


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
            time.sleep(POLL)
