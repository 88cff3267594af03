"""Settings by staff at Stripe that nobody else may change."""

import math
from dataclasses import dataclass, field

from sandbox.stripe.store.records import Record

#: Of a draft that is held until it is released.
FOR_GOOD = math.inf


@dataclass
class Holds:
    """Holds by the id of their invoice or subscription.

    `drafts`: until when staff hold them. `pauses`: the behavior of a paused collection,
    None if staff have ended it. `paused`: subscriptions. `coupons`: those that last
    forever, on subscriptions whose discounts staff have set.
    """

    drafts: dict[str, float] = field(default_factory=dict)
    pauses: dict[str, str | None] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    coupons: dict[str, set[str]] = field(default_factory=dict)

    def set_draft(self, invoice: Record) -> None:
        """Remember how long a draft is held, as staff have just set it."""
        later = invoice["automatically_finalizes_at"]
        if invoice["status"] == "draft":
            until = later if later and invoice["auto_advance"] else FOR_GOOD
            self.drafts[invoice["id"]] = until

    def release_draft(self, invoice: str) -> None:
        self.drafts.pop(invoice, None)

    def set_pause(self, subscription: Record) -> None:
        """Remember the collection of a subscription, as staff have just set it."""
        pause = subscription["pause_collection"] or {}
        self.pauses[subscription["id"]] = pause.get("behavior")

    def set_status(self, subscription: Record) -> None:
        """Remember whether staff have just paused or resumed a subscription."""
        id = subscription["id"]
        if subscription["status"] == "paused":
            self.paused.add(id)
        else:
            self.paused.discard(id)

    def end(self, subscription: str) -> None:
        """Forget the pause of a subscription that a person has ended."""
        self.paused.discard(subscription)
