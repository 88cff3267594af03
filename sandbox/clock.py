"""One clock for all processes on this machine, which can jump months ahead.

The sandbox Stripe's clock leads: the target of a symbolic link is its offset from real
time, and each process that knows the link follows it, including the children it forks.
Durations are unchanged: a five second sleep takes five seconds.

A process reads the link when it needs the time, so one that is idle does nothing. A
link, since reading one needs no file descriptor. A forked Celery worker closes the
descriptor of the inherited database connection twice: Celery by its number, then libpq.
In between a thread that opened a file could get that number, and lose the file.
"""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sandbox.common.state import UnreadableState

#: The environment variable that names the link.
VARIABLE = "SANDBOX_CLOCK"
#: Seconds for which an offset that was read is used.
POLL_INTERVAL = 0.02
#: Exit status of a process that cannot follow the clock any more.
CLOCK_LOST = 70


def write_offset(path: Path, seconds: float) -> None:
    """Set how many seconds the clock is ahead of real time."""
    # Replaced in one step: there always is a link.
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    draft.symlink_to(str(seconds))
    draft.replace(path)


def read_offset(path: Path) -> timedelta:
    """Return how far the clock is ahead of real time; zero without a link.

    Raises UnreadableState.
    """
    try:
        return timedelta(seconds=float(str(path.readlink())))
    except FileNotFoundError:
        return timedelta()
    except (OSError, ValueError, OverflowError) as exc:
        raise UnreadableState(f"{path} cannot be read: {exc}.") from exc


def follow(path: Path) -> None:
    """Apply the link's offset to the time of this process and its forked children."""
    _Follower(path)


def follow_from_environment() -> None:
    """Follow the link named by the environment variable, if it is set."""
    if name := os.environ.get(VARIABLE):
        follow(Path(name))


class _Follower:
    """The time of this process: real time, and the link's offset.

    It replaces time_machine's own traveller, whose offset others must change.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset_ns, self._next_read = 0, 0.0
        self._read()
        # Imported by followers only, as it takes long.
        with _without("pytest"):
            import time_machine

        self._real = time_machine.travel(datetime.now().astimezone()).start()
        # Time only runs from the first call on: without one, a process that is idle at
        # first would stay behind the others.
        time.time()
        travellers: list[Any] = time_machine.traveller_stack
        travellers[-1] = self

    def time_ns(self) -> int:
        """Return the time; time_machine calls this for all of Python's functions."""
        if time.monotonic() >= self._next_read:
            try:
                self._read()
            except UnreadableState:
                # A process with a clock of its own would bill other months than the
                # rest.
                traceback.print_exc()
                os._exit(CLOCK_LOST)
        return self._real.time_ns() + self._offset_ns

    def _read(self) -> None:
        # Each thread reads for itself. One that used the old offset while another reads
        # would be months behind it after a jump; to wait for that one might take for
        # ever, in a signal's handler or in a forked child.
        next_read = time.monotonic() + POLL_INTERVAL
        offset_ns = read_offset(self._path) // timedelta(microseconds=1) * 1_000
        # Else another thread has begun to read later: its offset is newer.
        if next_read >= self._next_read:
            self._offset_ns, self._next_read = offset_ns, next_read


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Hide an optional module from the imports in the block, unless it is loaded.

    time_machine imports pytest if that is installed, in an eighth of a second.
    """
    modules: dict[str, Any] = sys.modules
    if module in modules:
        yield
        return
    # https://docs.python.org/3/reference/import.html#the-module-cache
    modules[module] = None
    try:
        yield
    finally:
        del modules[module]
