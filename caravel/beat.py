"""Celery beat scheduler that finishes sending a message before it stops.

It keeps the times of the last runs in memory: Celery's own scheduler loads them from a
file by pickle, so whoever can write that file can run code.

Beat's signal handler raises an exception to stop it. While beat talks to the broker,
this exception would be handled as a broker error, and the signal would be lost.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

from celery import beat

#: Time from the start to the first run, of tasks with a longer period. Not at once: a
#: beat that starts again and again would send them each time.
_FIRST_RUN = timedelta(minutes=1)
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Scheduler(beat.Scheduler):
    """Scheduler in memory that defers stop signals while it sends a message.

    It does not know what ran before its start, so all tasks run soon.
    """

    def setup_schedule(self) -> None:
        super().setup_schedule()
        for entry in self.schedule.values():
            later = entry.schedule.run_every - _FIRST_RUN
            entry.last_run_at -= max(later, timedelta())

    def apply_entry(self, entry: beat.ScheduleEntry, producer: Any = None) -> None:
        with defer_signals():
            super().apply_entry(entry, producer=producer)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Hold back SIGTERM and SIGINT, and raise the first one again at the end."""
    # Python delivers signals to the main thread only, and only it can set handlers.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def defer(signum: int, frame: FrameType | None) -> None:
        received.append(signum)

    handlers = {signum: signal.signal(signum, defer) for signum in _STOP_SIGNALS}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        if received:
            signal.raise_signal(received[0])
