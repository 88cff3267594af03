"""Celery beat scheduler that finishes sending a message before it stops.

Beat's signal handler raises an exception to stop it. While beat talks to the broker,
this exception would be handled as a broker error, and the signal would be lost.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from celery.beat import PersistentScheduler, ScheduleEntry

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Scheduler(PersistentScheduler):
    """Persistent scheduler that defers stop signals while it sends a message."""

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
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
