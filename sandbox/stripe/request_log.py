"""A bounded log of requests, without their credentials."""

import threading
from collections import deque
from typing import Any

LIMIT = 10_000


class RequestLog:
    """The latest requests; thread-safe."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._lock = threading.Lock()
        self._entries: deque[dict[str, Any]] = deque(maxlen=limit)

    def add(self, entry: dict[str, Any]) -> None:
        """Append an entry; the oldest one makes room."""
        with self._lock:
            self._entries.append(entry)

    def list(
        self, method: str | None = None, path: str | None = None
    ) -> list[dict[str, Any]]:
        """Return entries, oldest first, by method and by part of the path."""
        with self._lock:
            entries = list(self._entries)
        return [
            entry
            for entry in entries
            if (method is None or entry["method"] == method.upper())
            and (path is None or path in entry["path"])
        ]

    def clear(self) -> None:
        """Forget every entry."""
        with self._lock:
            self._entries.clear()
