"""One clock for all processes on this machine, which can jump months ahead.

The sandbox Stripe's clock leads: the target of a symbolic link is its offset from real
time, and each process that knows the link follows it, including the children it forks.
Durations are unchanged: a five second sleep takes five seconds.

A link, since reading one needs no file descriptor. A forked Celery worker closes the
descriptor of the inherited database connection twice: Celery by its number, then libpq.
In between a thread that opened a file could get that number, and lose the file.
"""

import os
import threading
import time
import traceback
from datetime import datetime, timedelta
from pathlib import Path

from sandbox.common.state import UnreadableState

#: The environment variable that names the link.
VARIABLE = "SANDBOX_CLOCK"
#: Seconds between two reads of the link.
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
    """Keeps the offset of this process's time equal to the link's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = read_offset(path)
        # Imported by followers only, as it takes long. Not after the start is computed:
        # the process would stay behind by the time that takes.
        import time_machine

        start = datetime.now().astimezone() + self._offset
        self._travel = time_machine.travel(start).start()
        # Time only runs from the first call on: without one, a process that is idle at
        # first would stay behind the others.
        time.time()
        self._watch()
        # Threads do not survive a fork: each child needs its own.
        os.register_at_fork(after_in_child=self._watch)

    def _watch(self) -> None:
        threading.Thread(target=self._poll, name="clock", daemon=True).start()

    def _poll(self) -> None:
        try:
            while True:
                self._read()
                time.sleep(POLL_INTERVAL)
        except BaseException:
            # A process with a clock of its own would bill other months than the rest.
            traceback.print_exc()
            os._exit(CLOCK_LOST)

    def _read(self) -> None:
        offset = read_offset(self._path)
        if offset != self._offset:
            self._travel.shift(offset - self._offset)
            self._offset = offset
