"""Faults for events, requests and deliveries."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

from sandbox.common.faults import Fault
from sandbox.common.fields import BadField, Fields

Place = Literal["event", "req", "delivery"]
When = Literal["before", "after"]
Action = Callable[[], None]

EVERYWHERE = ("drop", "delay", "hold", "disconnect", "garble")
PLACES: dict[Place, tuple[str, ...]] = {
    "event": (*EVERYWHERE, "mute", "reject"),
    "req": (*EVERYWHERE, "mute", "closed"),
    "delivery": (*EVERYWHERE, "duplicate", "forge"),
}
# Kinds that can also apply after processing, so that only the answer is lost.
AFTER_KINDS = ("delay", "hold", "mute", "reject", "disconnect")


@dataclass(eq=False, kw_only=True)
class RelayFault(Fault):
    """Fault of the next `times` matching messages (None: until it is cleared).

    `on` is the message it affects: `event` and `req` are messages of a client,
    `delivery` is the sending of a new event to one subscription. The kinds:

    drop        answered like a success, but not processed; a delivery is lost
    delay       processed and answered after some seconds of real time
    hold        processed and answered when it is released
    mute        neither processed nor answered
    reject      an event is answered with OK false and the `reason`
    closed      a request is answered with CLOSED and the `reason`
    disconnect  the connection is closed at once, without an answer
    duplicate   delivered twice
    garble      processed; the answer is not valid JSON
    forge       delivered with a wrong signature

    With `before`, nothing is processed. With `after`, the event is stored and
    delivered, or the subscription opened, and only the answer is affected.
    """

    KINDS = tuple(dict.fromkeys(chain.from_iterable(PLACES.values())))

    on: Place = "event"
    when: When = "before"
    kinds: list[int] | None = None
    author: str | None = None
    reason: str = "blocked: a fault is active"

    def update(self, values: Fields) -> None:
        """Set the given values, keep the others. Raises BadField."""
        super().update(values)
        self.on = values.choice("on", PLACES, self.on)
        self.when = values.choice("when", get_args(When), self.when)
        self.kinds = sorted(values.optional(values.integers, "kinds") or ()) or None
        self.author = values.optional(values.text, "author")
        self.reason = values.text("reason", self.reason)
        if self.kind not in PLACES[self.on]:
            raise BadField(f"{self.kind} does not apply to {self.on}")
        allows_after = self.kind in AFTER_KINDS and self.on != "delivery"
        if self.when == "after" and not allows_after:
            raise BadField(f"{self.kind} on {self.on} does not apply after processing")

    def matches(
        self, on: Place, kinds: Collection[int], authors: Collection[str]
    ) -> bool:
        """Return whether the fault affects a message with these kinds and authors."""
        return (
            self.on == on
            and (self.kinds is None or any(kind in self.kinds for kind in kinds))
            and (self.author is None or self.author in authors)
        )
