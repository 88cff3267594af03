"""Faults of webhook deliveries: drop, duplicate, reorder, delay.

A fault applies to events at their creation, so the choice does not depend on the speed
of deliveries. Its effect is stored in the delivery, so pausing, retries and restarts
need no knowledge of faults.
"""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from random import Random
from typing import Any, Literal

from sandbox.common.probability import (
    BadFault,
    check_probability,
    check_times,
    seeded_random,
)
from sandbox.stripe.api.context import DELIVERY
from sandbox.stripe.store.records import Record, Store

Kind = Literal["drop", "duplicate", "reorder", "delay"]
KINDS = ("drop", "duplicate", "reorder", "delay")
# Seconds of sandbox time after which `reorder` delivers without a later event.
REORDER_TIMEOUT = 300


@dataclass(slots=True)
class WebhookFault:
    """Fault that applies to the deliveries of the next `times` matching events.

    `drop`: never delivered; in `GET /v1/events` the delivery stays pending, as after
    Stripe's last attempt. `duplicate`: delivered twice. `reorder`: delivered after a
    later event, or at most `seconds` later (default: 300). `delay`: delivered `seconds`
    later. Seconds are sandbox time. `type` is an event type or a pattern such as
    `invoice.*`; `times` None means until it is cleared.
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
        """Raise BadFault when a value is invalid."""
        if self.kind not in KINDS:
            raise BadFault(f"kind must be one of {', '.join(KINDS)}")
        if not isinstance(self.type, str) or not re.fullmatch(r"[\w.*]+", self.type):
            raise BadFault("type must be an event type like invoice.paid or invoice.*")
        check_times(self.times)
        minimum = 1 if self.kind == "delay" else 0
        if type(self.seconds) is not int or self.seconds < minimum:
            raise BadFault("seconds must be a whole number, at least 1 for a delay")
        check_probability(self.chance)

    def matches(self, type: str) -> bool:
        """Return whether the fault applies to an event. Uses up a random number."""
        return fnmatchcase(type, self.type) and self.random.random() < self.chance

    def to_dict(self) -> dict[str, Any]:
        """Return the fault as JSON data."""
        names = ("id", "kind", "type", "times", "seconds", "chance", "hits")
        return {name: getattr(self, name) for name in names}


class WebhookFaults:
    """Active faults in the order of their creation. Thread-safe."""

    def __init__(self, seed: int | None = None) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._count = 0
        # An immutable tuple that is replaced as a whole: reading needs no lock.
        self._faults: tuple[WebhookFault, ...] = ()

    def add(self, fault: WebhookFault) -> WebhookFault:
        """Activate a fault. Raises BadFault."""
        fault.check()
        with self._lock:
            self._count += 1
            fault.id = f"webhook_fault_{self._count}"
            fault.random = seeded_random(self._seed, fault.id)
            self._faults = (*self._faults, fault)
        return fault

    def list(self) -> list[dict[str, Any]]:
        """Return the active faults."""
        return [fault.to_dict() for fault in self._faults]

    def clear(self) -> None:
        """Remove all faults; deliveries that they have changed stay changed."""
        with self._lock:
            self._count = 0
            self._faults = ()

    def apply(self, store: Store, deliveries: Sequence[str], now: int) -> None:
        """Apply the faults to newly queued deliveries, given by their ids."""
        if not self._faults:
            return
        for id in deliveries:
            delivery = store.get(DELIVERY, id) or {}
            event = store.get("event", delivery.get("event", "")) or {}
            fault = self._take(event.get("type", ""))
            if fault is not None:
                _apply_fault(fault, store, delivery, now)

    def _take(self, type: str) -> WebhookFault | None:
        with self._lock:
            for fault in self._faults:
                if fault.matches(type):
                    self._use(fault)
                    return fault
        return None

    def _use(self, fault: WebhookFault) -> None:
        fault.hits += 1
        if fault.times is not None and fault.hits >= fault.times:
            self._faults = tuple(other for other in self._faults if other is not fault)


def _apply_fault(fault: WebhookFault, store: Store, delivery: Record, now: int) -> None:
    if fault.kind == "drop":
        store.delete(DELIVERY, delivery["id"])
    elif fault.kind == "duplicate":
        # `draft`: the finalization of a draft invoice waits for one of the two only.
        duplicate = {**delivery, "id": f"{delivery['id']}.again", "draft": None}
        store.put(DELIVERY, duplicate)
    else:
        delay = {
            "held": "fault",
            "not_before": now + (fault.seconds or REORDER_TIMEOUT),
            "until_overtaken": fault.kind == "reorder",
        }
        store.put(DELIVERY, {**delivery, **delay})
