"""Faults of webhook deliveries: drop, duplicate, reorder, delay.

A fault applies to events at their creation, so the choice does not depend on the speed
of deliveries. Its effect is stored in the delivery, so pausing, retries and restarts
need no knowledge of faults.
"""

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

from sandbox.common.faults import Fault, Faults
from sandbox.common.fields import BadField, Fields
from sandbox.stripe.api.context import DELIVERY
from sandbox.stripe.store.records import Record, Store

Kind = Literal["drop", "duplicate", "reorder", "delay"]
# Seconds of sandbox time after which `reorder` delivers without a later event.
REORDER_TIMEOUT = 300


@dataclass(eq=False)
class WebhookFault(Fault):
    """Fault of the deliveries of the next `times` matching events.

    `drop`: never delivered; in `GET /v1/events` the delivery stays pending, as after
    Stripe's last attempt. `duplicate`: delivered twice. `reorder`: delivered after a
    later event, or at most `seconds` later (default: 300). `delay`: delivered `seconds`
    later. Seconds are sandbox time. `type` is an event type or a pattern such as
    `invoice.*`.
    """

    KINDS = get_args(Kind)

    type: str = "*"
    _: KW_ONLY
    times: int | None = 1
    seconds: int = 0

    def update(self, values: Fields) -> None:
        """Set the given values, keep the others. Raises BadField."""
        super().update(values)
        self.type = values.text("type", self.type)
        if not re.fullmatch(r"[\w.*]+", self.type):
            raise BadField("type must be an event type like invoice.paid or invoice.*")

    def read_seconds(self, values: Fields) -> int:
        """Return the seconds of sandbox time. Raises BadField."""
        minimum = 1 if self.kind == "delay" else 0
        return values.integer("seconds", self.seconds, minimum=minimum)


def apply_faults(
    faults: Faults[WebhookFault], store: Store, deliveries: Sequence[str], now: int
) -> None:
    """Apply the faults to newly queued deliveries, given by their ids."""
    for id in deliveries if faults.active() else ():
        delivery = store.get(DELIVERY, id) or {}
        event = store.get("event", delivery.get("event", "")) or {}
        fault = _take(faults, event.get("type", ""))
        if fault is not None:
            _apply_fault(fault, store, delivery, now)


def _take(faults: Faults[WebhookFault], type: str) -> WebhookFault | None:
    return faults.take(lambda fault: fnmatchcase(type, fault.type))


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
