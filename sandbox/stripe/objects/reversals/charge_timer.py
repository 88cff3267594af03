"""Timer of a charge: what its test card makes the network do a second later.

Source: docs page "Testing", disputes and fraud. In recordings the dispute follows
within a second.
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.routing import Timer
from sandbox.stripe.objects.payments import charges
from sandbox.stripe.objects.reversals import disputes, fraud_warnings
from sandbox.stripe.objects.schemas.test_cards import CARDS
from sandbox.stripe.store.records import Record


def _due_at(charge: Record) -> int | None:
    at: int | None = charge.get("_acts_at")
    return at


def _run(context: Context, charge: Record) -> None:
    changed = context.change(charges.KIND, charge["id"], _acts_at=None)
    method = context.get("payment_method", charge["payment_method"])
    card = CARDS[method["_card"]]
    if card.fraud_warning:
        fraud_warnings.issue(context, changed)
    # A refund in the same second leaves nothing to dispute.
    if card.dispute and not changed["refunded"]:
        disputes.open_dispute(
            context, changed, reason=card.dispute, inquiry=card.is_inquiry
        )


TIMER = Timer(_due_at, _run)
