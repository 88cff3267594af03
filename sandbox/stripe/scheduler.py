"""What is due by itself: finalizations, renewals, expiries, in order of time."""

import heapq

from sandbox.stripe.resource import Registry, Timer
from sandbox.stripe.store import Record


class Scheduler:
    """A heap of due times, derived from the records, so nothing is lost on restart.

    Entries go stale when a record changes; each is checked when it comes up. What is
    due in the same second comes in order of creation, after a restart as before.
    """

    def __init__(self, registry: Registry) -> None:
        self._timers: dict[str, Timer] = {
            name: resource.timer
            for name, resource in registry.by_name.items()
            if resource.timer is not None
        }
        self.clear()

    def clear(self) -> None:
        """Forget every entry."""
        self._heap: list[tuple[int, int, str, str]] = []
        self._at: dict[tuple[str, str], int] = {}

    def watch(self, kind: str, seq: int, record: Record) -> None:
        """Enter what is due on a record that was just written, or is gone."""
        timer = self._timers.get(kind)
        if timer is None:
            return
        at = None if record.get("deleted") else timer.due_at(record)
        key = (kind, record["id"])
        if at is None:
            self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            heapq.heappush(self._heap, (at, seq, *key))

    def next_at(self) -> int | None:
        """Return the earliest due time, or None."""
        first = self.peek()
        return first[0] if first else None

    def peek(self) -> tuple[int, str] | None:
        """Return the earliest due time and the id of what is due then, or None."""
        while self._heap and self._at.get(self._heap[0][2:]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return (self._heap[0][0], self._heap[0][3]) if self._heap else None

    def pop(self) -> tuple[str, str, Timer]:
        """Remove and return the earliest entry: kind, id, timer."""
        _, _, kind, id = heapq.heappop(self._heap)
        del self._at[kind, id]
        return kind, id, self._timers[kind]
