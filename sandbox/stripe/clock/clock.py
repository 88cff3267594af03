"""Sandbox time: real time plus an offset."""

import time
from pathlib import Path

from sandbox.clock import write_offset


class Clock:
    """Clock that never runs backwards, so objects stay sorted by `created`.

    Only a reset or a restored snapshot, which replace all objects, set it back. With
    `path`, the offset is written to that file for other processes to follow.
    """

    def __init__(self, offset: int = 0, path: Path | None = None) -> None:
        self._path = path
        self._latest = 0
        self._set(offset)

    def now(self) -> int:
        """Return sandbox time in seconds since the epoch."""
        self._latest = max(self._latest, int(time.time()) + self.offset)
        return self._latest

    def receiver_now(self) -> int:
        """Return the webhook receivers' time: sandbox time if they follow the file."""
        return self.now() if self._path else int(time.time())

    def advance(self, seconds: int) -> int:
        """Move forward and return the new time. Raises ValueError if negative."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        self._set(self.offset + seconds)
        return self.now()

    def reset(self) -> None:
        """Return to real time."""
        self._set(0)
        self._latest = 0

    def restore(self, now: int) -> None:
        """Set the clock to the time of a snapshot, which may be in the past."""
        self._set(now - int(time.time()))
        self._latest = now

    def _set(self, offset: int) -> None:
        self.offset = offset
        if self._path:
            write_offset(self._path, offset)
