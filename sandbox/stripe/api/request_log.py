"""Bounded log of API requests, without credentials."""

import threading
from collections import deque
from typing import Any

MAX_ENTRIES = 10_000


class RequestLog:
    """Log of the latest requests. Thread-safe."""

    def __init__(self, limit: int = MAX_ENTRIES) -> None:
        self._lock = threading.Lock()
        self._entries: deque[dict[str, Any]] = deque(maxlen=limit)

    def add(self, entry: dict[str, Any]) -> None:
        """Append an entry; when the log is full, drop the oldest one."""
        with self._lock:
            self._entries.append(entry)

    def clear(self) -> list[dict[str, Any]]:
        """Delete all entries and return them, oldest first."""
        with self._lock:
            entries = [*self._entries]
            self._entries.clear()
        return entries

    def list(
        self, method: str | None = None, path: str | None = None
    ) -> list[dict[str, Any]]:
        """Return entries, oldest first, with this method and substring of the path."""
        with self._lock:
            entries = list(self._entries)
        return [
            entry
            for entry in entries
            if (method is None or entry["method"] == method.upper())
            and (path is None or path in entry["path"])
        ]
