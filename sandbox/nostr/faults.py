"""Faults for events, requests and deliveries."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

from sandbox.common.probability import (
    BadFault,
    check_probability,
    check_times,
    seeded_random,
)

Kind = Literal[
    "drop",
    "delay",
    "hold",
    "mute",
    "reject",
    "closed",
    "disconnect",
    "duplicate",
    "garble",
    "forge",
]
Place = Literal["event", "req", "delivery"]
When = Literal["before", "after"]
Action = Callable[[], None]

PLACES: dict[str, tuple[str, ...]] = {
    "event": ("drop", "delay", "hold", "mute", "reject", "disconnect", "garble"),
    "req": ("drop", "delay", "hold", "mute", "closed", "disconnect", "garble"),
    "delivery": (
        *("drop", "delay", "hold", "disconnect"),
        *("duplicate", "garble", "forge"),
    ),
}
# Kinds that can also apply after processing, so that only the answer is lost.
AFTER_KINDS = ("delay", "hold", "mute", "reject", "disconnect")


@dataclass(slots=True, kw_only=True)
class Fault:
    """A fault for `times` messages (None: until it is cleared).

    `on` is the message it affects: `event` and `req` are messages of a client,
    `delivery` is the sending of a new event to one subscription. The kinds:

    drop        answered like a success, but not processed; a delivery is lost
    delay       processed and answered after some seconds of real time
    hold        processed and answered when it is released
    mute        neither processed nor answered
    reject      an event is answered with OK false, `blocked:`
    closed      a request is answered with CLOSED, `blocked:`
    disconnect  the connection is closed at once, without an answer
    duplicate   delivered twice
    garble      processed; the answer is not valid JSON
    forge       delivered with a wrong signature

    With `before`, nothing is processed. With `after`, the event is stored and
    delivered, or the subscription opened, and only the answer is affected.
    """

    kind: Kind
    on: Place = "event"
    when: When = "before"
    kinds: frozenset[int] | None = None
    author: str | None = None
    times: int | None = None
    seconds: float = 0.0
    chance: float = 1.0
    id: str = ""
    hits: int = 0
    random: Random = field(default_factory=Random)

    def check(self) -> None:
        """Raise BadFault if the combination is invalid."""
        if self.kind not in PLACES.get(self.on, ()):
            raise BadFault(f"{self.kind} does not apply to {self.on}")
        if self.when not in ("before", "after"):
            raise BadFault("when must be before or after")
        if self.when == "after" and (
            self.kind not in AFTER_KINDS or self.on == "delivery"
        ):
            raise BadFault(f"{self.kind} on {self.on} does not apply after processing")
        if self.seconds < 0:
            raise BadFault("seconds must be 0 or more")
        check_times(self.times)
        check_probability(self.chance)

    def matches(self, kinds: Collection[int], authors: Collection[str]) -> bool:
        """Return whether the fault affects a message with these kinds and authors."""
        return (
            (self.kinds is None or not self.kinds.isdisjoint(kinds))
            and (self.author is None or self.author in authors)
            and self.random.random() < self.chance
        )


class Faults:
    """The active faults, in the order in which they were added."""

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._count = 0
        self._active: dict[Place, list[Fault]] = {}
        self._all: dict[str, Fault] = {}

    def add(self, fault: Fault) -> Fault:
        """Activate a fault. Raises BadFault."""
        fault.check()
        self._count += 1
        fault.id = f"fault_{self._count}"
        fault.random = seeded_random(self._seed, fault.id)
        self._active.setdefault(fault.on, []).append(fault)
        self._all[fault.id] = fault
        return fault

    def take(
        self, on: Place, *, kinds: Collection[int], authors: Collection[str]
    ) -> Fault | None:
        """Return the first fault for this message and count its use."""
        for fault in self._active.get(on, ()):
            if fault.matches(kinds, authors):
                self._use(fault)
                return fault
        return None

    def active(self) -> list[Fault]:
        """Return copies of the faults that can still affect messages, in order."""
        remaining = {fault.id for faults in self._active.values() for fault in faults}
        return [replace(fault) for fault in self._all.values() if fault.id in remaining]

    def hits(self, fault_id: str) -> int:
        """Return how often a fault was used. Raises KeyError once it is cleared."""
        return self._all[fault_id].hits

    def clear(self) -> None:
        """Remove all faults."""
        self._active.clear()
        self._all.clear()

    def _use(self, fault: Fault) -> None:
        fault.hits += 1
        if fault.hits == fault.times:
            self._active[fault.on].remove(fault)
