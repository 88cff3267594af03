"""Sandbox time: real time plus an offset."""

import time
from pathlib import Path

from sandbox.clock import write_offset


class Clock:
    """Never runs backwards, so objects stay sorted by `created`.

    Only what replaces all objects, a reset or a snapshot, may set it back. With a file,
    other processes follow.
    """

    def __init__(self, offset: int = 0, path: Path | None = None) -> None:
        self._path = path
        self._latest = 0
        self._set(offset)

    def now(self) -> int:
        """Return sandbox time in seconds since the epoch."""
        self._latest = max(self._latest, int(time.time()) + self.offset)
        return self._latest

    def receivers_now(self) -> int:
        """Return what receivers of webhooks take for the time: ours if they follow."""
        return self.now() if self._path else int(time.time())

    def advance(self, seconds: int) -> int:
        """Move forward and return the new time. Raises ValueError for a step back."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        self._set(self.offset + seconds)
        return self.now()

    def reset(self) -> None:
        """Return to real time."""
        self._set(0)
        self._latest = 0

    def restore(self, moment: int) -> None:
        """Go on from a moment, be it in the past."""
        self._set(moment - int(time.time()))
        self._latest = moment

    def _set(self, offset: int) -> None:
        self.offset = offset
        if self._path:
            write_offset(self._path, offset)
