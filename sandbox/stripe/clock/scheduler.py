"""Queue of timers on records: finalizations, renewals, expiries."""

import heapq

from sandbox.stripe.api.routing import Registry, Timer
from sandbox.stripe.store.records import Record


class Scheduler:
    """Heap of due times, derived from the records and thus rebuilt after a restart.

    A changed record leaves a stale entry, which is skipped when it reaches the top.
    Timers due in the same second run in order of the records' creation.
    """

    def __init__(self, registry: Registry) -> None:
        self._timers: dict[str, Timer] = {
            name: resource.timer
            for name, resource in registry.by_name.items()
            if resource.timer is not None
        }
        self.clear()

    def clear(self) -> None:
        """Remove all entries."""
        self._heap: list[tuple[int, int, str, str]] = []
        self._at: dict[tuple[str, str], int] = {}

    def watch(self, kind: str, seq: int, record: Record) -> None:
        """Update the entry of a record that was written or deleted."""
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
        """Return the earliest due time and the id of its record, or None."""
        while self._heap and self._at.get(self._heap[0][2:]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return (self._heap[0][0], self._heap[0][3]) if self._heap else None

    def pop(self) -> tuple[str, str, Timer]:
        """Remove the earliest entry and return its kind, id and timer."""
        _, _, kind, id = heapq.heappop(self._heap)
        del self._at[kind, id]
        return kind, id, self._timers[kind]
