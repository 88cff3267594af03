"""Disputes (docs: API reference, Disputes; docs page "How disputes work").

A chargeback takes the money at once, and its charge can no longer be refunded; an
inquiry takes nothing until it is escalated. Both seen in recordings of test mode, as is
that refunds made during an inquiry fail when it is escalated.
"""

from typing import Any, Literal

from sandbox.stripe.api.context import Context, clone, difference
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import (
    Boolean,
    Hash,
    Metadata,
    Range,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.clock.periods import DAY
from sandbox.stripe.objects.fields import copy_params, nulls
from sandbox.stripe.objects.payments import charges
from sandbox.stripe.objects.reversals import fraud_warnings, refunds
from sandbox.stripe.objects.reversals.dispute_movements import movement
from sandbox.stripe.store.records import Record

KIND = "dispute"
URL = "/v1/disputes"
OBJECT_URL = f"{URL}/{{id}}"
Outcome = Literal["won", "lost", "warning_closed"]
CREATED, CLOSED = "charge.dispute.created", "charge.dispute.closed"
UPDATED = "charge.dispute.updated"
WITHDRAWN = "charge.dispute.funds_withdrawn"
REINSTATED = "charge.dispute.funds_reinstated"
UNANSWERED = ("needs_response", "warning_needs_response")
REVIEWED = ("under_review", "warning_under_review")
FINAL = ("won", "lost", "warning_closed")
REASONS = (
    "bank_cannot_process",
    "check_returned",
    "credit_not_processed",
    "customer_initiated",
    "debit_not_authorized",
    "duplicate",
    "fraudulent",
    "general",
    "incorrect_account_details",
    "insufficient_funds",
    "noncompliant",
    "product_not_received",
    "product_unacceptable",
    "subscription_canceled",
    "unrecognized",
)
# Docs page "How disputes work": usually 7 to 21 days.
RESPONSE_DAYS = 9
# Same page: an inquiry that is not escalated within 120 days is closed.
INQUIRY_DAYS = 120
# Docs page "Testing": texts that decide a dispute. That it takes an hour is assumed.
DECISIONS = {
    "winning_evidence": "won",
    "losing_evidence": "lost",
    "escalate_inquiry_evidence": "escalated",
}
DECISION_DELAY = 3_600
# Docs page "Cancel subscriptions": "It takes about one hour for changes to the
# subscription to take effect."
CANCELLATION_DELAY = 3_600
EVIDENCE = """
    access_activity_log billing_address cancellation_policy
    cancellation_policy_disclosure cancellation_rebuttal customer_communication
    customer_email_address customer_name customer_purchase_ip customer_signature
    duplicate_charge_documentation duplicate_charge_explanation duplicate_charge_id
    product_description receipt refund_policy refund_policy_disclosure
    refund_refusal_explanation service_date service_documentation shipping_address
    shipping_carrier shipping_date shipping_documentation shipping_tracking_number
    uncategorized_file uncategorized_text
"""
TEXTS = dict.fromkeys(EVIDENCE.split(), Text(unset=True, max_length=20_000))
UPDATE = Shape({"evidence": Hash(TEXTS), "metadata": Metadata(), "submit": Boolean()})
resource = Resource(KIND, indexes=("charge", "payment_intent"))
resource.retrievable(URL)


@resource.get(URL, listing(charge=Text(), created=Range(), payment_intent=Text()))
def list_(context: Context, params: Params) -> Record:
    """Return the disputes, newest first."""
    filters = {name: params.get(name) for name in ("charge", "payment_intent")}
    return page(context.store, KIND, URL, params, filters=filters)


@resource.post(OBJECT_URL, UPDATE)
def update(context: Context, params: Params, id: str) -> Record:
    """Add evidence, by default submitting it, or change metadata. Raises a 400.

    Evidence can be submitted once.
    """
    changed = _copy(context, id)
    copy_params(changed, params, "metadata")
    if "evidence" in params or "submit" in params:
        if changed["status"] not in UNANSWERED:
            raise invalid("The evidence of this dispute can no longer be changed.")
        _add_evidence(changed, params.get("evidence", {}))
        if params.get("submit", True):
            _submit(context, changed)
    return _replace(context, changed, UPDATED)


@resource.post(f"{OBJECT_URL}/close", Shape())
def accept(context: Context, params: Params, id: str) -> Record:
    """Accept a dispute, which is then lost. Raises a 400 or a 404."""
    if context.get(KIND, id)["status"] != "needs_response":
        raise invalid("Only a dispute that needs a response can be closed.")
    return close(context, id, "lost")


def open_dispute(
    context: Context,
    charge: Record,
    *,
    amount: int | None = None,
    reason: str = "fraudulent",
    inquiry: bool = False,
    days: int = RESPONSE_DAYS,
) -> Record:
    """Open the dispute of a charge, by default over all that is left of it.

    `days`: time to respond. The dispute of a bank debit is lost at once: there is no
    appeal (docs page "ACH Direct Debit"). Raises a 400.
    """
    is_card = charge["payment_method_details"]["type"] == "card"
    if inquiry and not is_card:
        raise invalid("Only the payment of a card can have an inquiry.")
    kind = "inquiry" if inquiry else "chargeback"
    dispute = {
        **_new_dispute(context, charge),
        "amount": _check(context, charge, amount),
        "is_charge_refundable": inquiry,
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
        **({"payment_method_details": _card_details(charge, kind)} if is_card else {}),
    }
    if is_card:
        dispute["evidence_details"]["due_by"] = _end_of_day(context.now + days * DAY)
    context.insert(dispute, CREATED)
    disputed = context.change(charges.KIND, charge["id"], disputed=True)
    fraud_warnings.refresh(context, disputed)
    if inquiry:
        return dispute
    withdrawn = _withdraw(context, dispute["id"])
    return withdrawn if is_card else close(context, dispute["id"], "lost")


def _new_dispute(context: Context, charge: Record) -> dict[str, Any]:
    return {
        **context.new(KIND, "du"),
        "balance_transactions": [],
        "charge": charge["id"],
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**nulls(EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            # 0: the bank does not allow a response (SDK type Dispute).
            "due_by": 0,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        "intended_submission_method": None,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "_cancels_at": None,
        "_decides_at": None,
        "_decision": None,
    }


def escalate(context: Context, id: str, *, days: int = RESPONSE_DAYS) -> Record:
    """Turn an inquiry into a chargeback. Raises a 400."""
    changed = _copy(context, id)
    if changed["status"] not in ("warning_needs_response", "warning_under_review"):
        raise invalid("Only an open inquiry can be escalated.")
    _fail_refunds_since(context, changed)
    changed.update(is_charge_refundable=False, status="needs_response")
    changed.update(_decides_at=None, _decision=None)
    changed["evidence_details"]["due_by"] = _end_of_day(context.now + days * DAY)
    changed["payment_method_details"]["card"]["case_type"] = "chargeback"
    _replace(context, changed, UPDATED)
    return _withdraw(context, id)


def close(context: Context, id: str, outcome: Outcome) -> Record:
    """End a dispute; a won one returns the money. Raises a 400."""
    changed = _copy(context, id)
    is_inquiry = changed["status"].startswith("warning_")
    if changed["status"] in FINAL or is_inquiry != (outcome == "warning_closed"):
        raise invalid(f"A dispute that is {changed['status']} cannot be {outcome}.")
    changed.update(status=outcome, is_charge_refundable=outcome != "lost")
    changed.update(_decides_at=None, _decision=None)
    if outcome == "won":
        changed["balance_transactions"].append(
            movement(context, changed, changed["amount"])
        )
    _replace(context, changed, CLOSED)
    if outcome == "won":
        context.emit(REINSTATED, changed)
    return changed


def _copy(context: Context, id: str) -> dict[str, Any]:
    """Return a dispute to change. Raises a 404."""
    dispute: dict[str, Any] = clone(context.get(KIND, id))
    return dispute


def _check(context: Context, charge: Record, amount: int | None) -> int:
    """Return the amount to dispute. Raises a 400."""
    left = int(charge["amount"] - charge["amount_refunded"])
    amount = left if amount is None else amount
    disputes = context.store.scan(KIND, index=("charge", charge["id"]))
    if charge["status"] != "succeeded" or not 0 < amount <= left:
        raise invalid(f"Of the charge {charge['id']} only {left} can be disputed.")
    if any(dispute["status"] not in ("won", "warning_closed") for dispute in disputes):
        raise invalid(f"The charge {charge['id']} is disputed already.")
    return amount


def _fail_refunds_since(context: Context, dispute: Record) -> None:
    """Fail the refunds that were made since the inquiry began."""
    index, reason = ("charge", dispute["charge"]), "charge_for_pending_refund_disputed"
    for refund in list(context.store.scan(refunds.KIND, index=index)):
        is_later = refund["created"] >= dispute["created"]
        if is_later and refund["status"] not in refunds.ENDED:
            refunds.settle(context, refund["id"], failure_reason=reason)


def _card_details(charge: Record, kind: str) -> dict[str, Any]:
    card = charge["payment_method_details"]["card"]
    details = {
        "brand": card["brand"],
        "case_type": kind,
        "network": card["network"],
        "network_reason_code": None,
    }
    return {"card": details, "type": "card"}


def _end_of_day(at: int) -> int:
    """Return the last second of a day in UTC, as in recorded disputes."""
    return at - at % DAY + DAY - 1


def _add_evidence(dispute: dict[str, Any], evidence: Params) -> None:
    merged = {**dispute["evidence"], **evidence}
    dispute["evidence"] = merged
    has_evidence = any(merged[name] is not None for name in TEXTS)
    dispute["evidence_details"]["has_evidence"] = has_evidence


def _submit(context: Context, dispute: dict[str, Any]) -> None:
    details = dispute["evidence_details"]
    details["submission_count"] += 1
    details["submission_method"] = "manual"
    details["past_due"] = context.now > details["due_by"]
    inquiry = dispute["status"].startswith("warning_")
    dispute["status"] = REVIEWED[inquiry]
    decision = DECISIONS.get(dispute["evidence"]["uncategorized_text"])
    if decision and inquiry == (decision == "escalated"):
        dispute.update(_decision=decision, _decides_at=context.now + DECISION_DELAY)


def _withdraw(context: Context, id: str) -> Record:
    """Take the money, with a fee, and cancel the subscription if the account wants it.

    Docs page "Cancel subscriptions": only for disputes of cards over the full amount.
    """
    changed = _copy(context, id)
    taken = movement(context, changed, -changed["amount"])
    changed["balance_transactions"].append(taken)
    charge = context.get(charges.KIND, changed["charge"])
    is_full = changed["amount"] == charge["amount"]
    if is_full and "payment_method_details" in changed:
        changed["_cancels_at"] = context.now + CANCELLATION_DELAY
    context.store.put(KIND, changed)
    context.emit(WITHDRAWN, changed)
    return changed


def _replace(context: Context, changed: Record, event: str) -> Record:
    """Store a changed dispute; emit the event if it differs."""
    before = context.serialize(context.get(KIND, changed["id"]))
    context.store.put(KIND, changed)
    if previous := difference(before, context.serialize(changed)):
        context.emit(event, changed, previous)
    return changed
