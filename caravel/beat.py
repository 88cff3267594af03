"""Celery beat's scheduler, which is not stopped in the middle of sending a message.

Beat ends by an exception that its handler of signals raises. In the midst of talking to
the broker it would be taken for trouble with that, and be lost with the signal.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from celery.beat import PersistentScheduler, ScheduleEntry

_ENDING = (signal.SIGTERM, signal.SIGINT)


class Scheduler(PersistentScheduler):
    """The schedule of the settings, kept in a file."""

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Send the message of an entry; a signal to end waits until it is sent."""
        with defer_signals():
            super().apply_entry(entry, producer=producer)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Let signals to end wait, and be handled afterwards as they would have been.

    Threads other than the main one get none, so nothing is done there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def hold(signum: int, frame: FrameType | None) -> None:
        arrived.append(signum)

    handlers = {signum: signal.signal(signum, hold) for signum in _ENDING}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if arrived:
            signal.raise_signal(arrived[0])
