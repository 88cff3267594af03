"""Faults on order: what goes wrong with which events, requests and deliveries."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal

from sandbox.stripe.chance import (
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
# What can also strike once the work is done, so that only its answer is lost.
AFTER = ("delay", "hold", "mute", "reject", "disconnect")


@dataclass(slots=True, kw_only=True)
class Fault:
    """What goes wrong, and for how many messages (None: until it is cleared).

    On `event` and `req` it strikes a message of a client, on `delivery` the sending
    of a new event to one subscription:

    drop        answered as if it were done, but nothing is; a delivery is lost
    delay       done and answered after some real seconds
    hold        done and answered when it is released
    mute        neither done nor answered
    reject      an event is answered OK false, `blocked:`
    closed      a request is answered CLOSED, `blocked:`
    disconnect  the connection is closed at once, without an answer
    duplicate   delivered twice
    garble      done; what is sent is no JSON
    forge       delivered with a wrong signature

    `before` means that nothing is done; `after` that the event is stored and delivered,
    the subscription open, and only the answer goes wrong.
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
        """Raise BadFault when it makes no sense."""
        if self.kind not in PLACES.get(self.on, ()):
            raise BadFault(f"there is no {self.kind} on {self.on}")
        if self.when not in ("before", "after"):
            raise BadFault("when is before or after")
        if self.when == "after" and (self.kind not in AFTER or self.on == "delivery"):
            raise BadFault(f"{self.kind} on {self.on} strikes nothing afterwards")
        if self.seconds < 0:
            raise BadFault("seconds are 0 or more")
        check_times(self.times)
        check_probability(self.chance)

    def strikes(self, kinds: Collection[int], authors: Collection[str]) -> bool:
        """Return whether a message about these is hit; the seed decides by chance."""
        return (
            (self.kinds is None or not self.kinds.isdisjoint(kinds))
            and (self.author is None or self.author in authors)
            and self.random.random() < self.chance
        )


class Faults:
    """The faults in force, in the order they were asked for."""

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._count = 0
        self._in_force: dict[Place, list[Fault]] = {}
        self._all: dict[str, Fault] = {}

    def add(self, fault: Fault) -> Fault:
        """Put a fault in force. Raises BadFault."""
        fault.check()
        self._count += 1
        fault.id = f"fault_{self._count}"
        fault.random = seeded_random(self._seed, fault.id)
        self._in_force.setdefault(fault.on, []).append(fault)
        self._all[fault.id] = fault
        return fault

    def take(
        self, on: Place, *, kinds: Collection[int], authors: Collection[str]
    ) -> Fault | None:
        """Return the first fault for this message, used up once more."""
        for fault in self._in_force.get(on, ()):
            if fault.strikes(kinds, authors):
                self._use(fault)
                return fault
        return None

    def in_force(self) -> list[Fault]:
        """Return copies of the faults that may still strike, in their order."""
        left = {fault.id for faults in self._in_force.values() for fault in faults}
        return [replace(fault) for fault in self._all.values() if fault.id in left]

    def hits(self, fault_id: str) -> int:
        """Return how often a fault has struck. Raises KeyError once it is cleared."""
        return self._all[fault_id].hits

    def clear(self) -> None:
        """Remove every fault."""
        self._in_force.clear()
        self._all.clear()

    def _use(self, fault: Fault) -> None:
        fault.hits += 1
        if fault.hits == fault.times:
            self._in_force[fault.on].remove(fault)
