"""Faults of webhook deliveries on order: dropped, sent twice, overtaken, late.

A fault strikes events that happen after it was asked for, when they happen: which ones
does not depend on how fast deliveries are made. What it decides stands in the delivery
itself, so pausing, retries and restarts go on as without it.
"""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from random import Random
from typing import Any, Literal

from sandbox.stripe.chance import BadFault, check_chance, check_times, generator
from sandbox.stripe.context import DELIVERY
from sandbox.stripe.store import Record, Store

Kind = Literal["drop", "duplicate", "reorder", "delay"]
KINDS = ("drop", "duplicate", "reorder", "delay")
# How long, on the sandbox's clock, `reorder` waits for an event to be overtaken by.
PATIENCE = 300


@dataclass(slots=True)
class WebhookFault:
    """What goes wrong with deliveries of events, and how often.

    `drop`: never delivered; the event stays undelivered for `GET /v1/events`, as if
    Stripe had given up. `duplicate`: delivered twice. `reorder`: delivered once a later
    event was, at most `seconds` (300 if not given) later. `delay`: delivered `seconds`
    later. Seconds pass on the sandbox's clock. `type` is an event type or a pattern
    like `invoice.*`; `times` None means until it is cleared.
    """

    kind: Kind
    type: str = "*"
    times: int | None = 1
    seconds: int = 0
    chance: float = 1.0
    id: str = ""
    hits: int = 0
    random: Random = field(default_factory=Random)

    def check(self) -> None:
        """Raise BadFault when a value is not of its kind."""
        if self.kind not in KINDS:
            raise BadFault(f"kind is one of {', '.join(KINDS)}")
        if not isinstance(self.type, str) or not re.fullmatch(r"[\w.*]+", self.type):
            raise BadFault("type is an event type like invoice.paid or invoice.*")
        check_times(self.times)
        least = 1 if self.kind == "delay" else 0
        if type(self.seconds) is not int or self.seconds < least:
            raise BadFault("seconds is a whole number; a delay has at least 1")
        check_chance(self.chance)

    def strikes(self, type: str) -> bool:
        """Return whether this event is hit; the seed decides where chance does."""
        return fnmatchcase(type, self.type) and self.random.random() < self.chance

    def show(self) -> dict[str, Any]:
        """Return the fault as JSON."""
        names = ("id", "kind", "type", "times", "seconds", "chance", "hits")
        return {name: getattr(self, name) for name in names}


class WebhookFaults:
    """The faults in force, in the order they were asked for; thread-safe."""

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._count = 0
        # Replaced as a whole, so that it can be read without the lock.
        self._faults: tuple[WebhookFault, ...] = ()

    def add(self, fault: WebhookFault) -> WebhookFault:
        """Put a fault in force. Raises BadFault."""
        fault.check()
        with self._lock:
            self._count += 1
            fault.id = f"webhook_fault_{self._count}"
            fault.random = generator(self._seed, fault.id)
            self._faults = (*self._faults, fault)
        return fault

    def list(self) -> list[dict[str, Any]]:
        """Return the faults in force."""
        return [fault.show() for fault in self._faults]

    def clear(self) -> None:
        """Remove every fault; what they have done to a delivery stays."""
        with self._lock:
            self._count = 0
            self._faults = ()

    def apply(self, store: Store, deliveries: Sequence[str], now: int) -> None:
        """Let the faults change deliveries that were just queued, by their ids."""
        if not self._faults:
            return
        for id in deliveries:
            delivery = store.get(DELIVERY, id) or {}
            event = store.get("event", delivery.get("event", "")) or {}
            fault = self._take(event.get("type", ""))
            if fault is not None:
                _strike(fault, store, delivery, now)

    def _take(self, type: str) -> WebhookFault | None:
        with self._lock:
            for fault in self._faults:
                if fault.strikes(type):
                    self._use(fault)
                    return fault
        return None

    def _use(self, fault: WebhookFault) -> None:
        fault.hits += 1
        if fault.times is not None and fault.hits >= fault.times:
            self._faults = tuple(one for one in self._faults if one is not fault)


def _strike(fault: WebhookFault, store: Store, delivery: Record, now: int) -> None:
    if fault.kind == "drop":
        store.delete(DELIVERY, delivery["id"])
    elif fault.kind == "duplicate":
        again = {**delivery, "id": f"{delivery['id']}.again", "draft": None}
        store.put(DELIVERY, again)
    else:
        reorder = fault.kind == "reorder"
        wait = fault.seconds or PATIENCE
        held = {"held": "fault", "not_before": now + wait, "until_overtaken": reorder}
        store.put(DELIVERY, {**delivery, **held})
