"""Refunds (docs: API reference, Refunds; docs page "Refund and cancel payments").

A refund changes its charge, and no field of the invoice that the charge paid: only a
credit note does (SDK types Refund, Invoice and CreditNote). The error texts are those
of recordings; that a failed refund no longer counts in `amount_refunded` is assumed.
"""

from typing import Any

from sandbox.stripe.api.context import Context, clone, difference
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import (
    Choice,
    Integer,
    Metadata,
    Range,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource, Timer
from sandbox.stripe.clock.periods import DAY
from sandbox.stripe.money import currencies
from sandbox.stripe.objects.fields import (
    check_amount,
    copy_params,
    new_metadata,
    nulls,
)
from sandbox.stripe.objects.payments import charges
from sandbox.stripe.objects.reversals import fraud_warnings
from sandbox.stripe.objects.schemas.test_cards import CARDS
from sandbox.stripe.store.records import Record

KIND = "refund"
URL = "/v1/refunds"
OBJECT_URL = f"{URL}/{{id}}"
#: These give nothing back.
ENDED = frozenset({"canceled", "failed"})
UPDATED = ("refund.updated", "charge.refund.updated")
# Assumed: the test cards "pendingRefund" and "refundFail" act seconds later at Stripe.
TEST_CARD_DELAY = 3_600
FAILURE_REASONS = (
    "charge_for_pending_refund_disputed",
    "declined",
    "expired_or_canceled_card",
    "insufficient_funds",
    "lost_or_stolen_card",
    "merchant_request",
    "unknown",
)
NULL_FIELDS = nulls(
    "balance_transaction customer_account reason receipt_number "
    "source_transfer_reversal transfer_reversal"
)
CREATE = Shape(
    {
        "amount": Integer(1),
        "charge": Text(),
        "metadata": Metadata(),
        "payment_intent": Text(),
        "reason": Choice(("duplicate", "fraudulent", "requested_by_customer")),
    }
)
resource = Resource(KIND, indexes=("charge", "customer", "payment_intent"))
resource.retrievable(URL)


@resource.get(URL, listing(charge=Text(), created=Range(), payment_intent=Text()))
def list_(context: Context, params: Params) -> Record:
    """Return the refunds, newest first."""
    filters = {name: params.get(name) for name in ("charge", "payment_intent")}
    return page(context.store, KIND, URL, params, filters=filters)


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Refund a charge, by default all that is left of it. Raises a 400."""
    fields: dict[str, Any] = {"metadata": new_metadata(params)}
    copy_params(fields, params, "reason")
    return issue(context, _charge(context, params), params.get("amount"), **fields)


@resource.post(OBJECT_URL, Shape({"metadata": Metadata()}))
def update(context: Context, params: Params, id: str) -> Record:
    """Update the metadata. Raises a 404."""
    changed = clone(context.get(KIND, id))
    copy_params(changed, params, "metadata")
    return _replace(context, changed)


def issue(
    context: Context, charge: Record, amount: int | None = None, **fields: Any
) -> Record:
    """Store a refund of a charge; emit `refund.created` and `charge.refunded`.

    Raises a 400 if the charge has not succeeded, or if less is left of it.
    """
    amount = _check(context, charge, amount)
    is_card = charge["payment_method_details"]["type"] == "card"
    refund = {
        **NULL_FIELDS,
        **context.new(KIND, "re" if is_card else "pyr"),
        "amount": amount,
        "charge": charge["id"],
        "currency": charge["currency"],
        "customer": charge["customer"],
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "status": "succeeded",
        **_outlook(context, charge),
        **fields,
    }
    del refund["livemode"]
    context.insert(refund, "refund.created")
    _count(context, charge["id"], "charge.refunded")
    return refund


def settle(context: Context, id: str, *, failure_reason: str | None = None) -> Record:
    """Let a pending refund succeed, or with a reason let any fail. Raises a 400."""
    old = context.get(KIND, id)
    settled = "pending" if failure_reason is None else "pending succeeded"
    if old["status"] not in settled.split():
        raise invalid(f"This refund's status is {old['status']}: nothing can change.")
    changed = {**old, "_outcome": None, "_settles_at": None, "status": "succeeded"}
    changed.pop("pending_reason", None)
    if failure_reason is None:
        return _replace(context, changed)
    changed.update(failure_reason=failure_reason, status="failed")
    _replace(context, changed)
    context.emit("refund.failed", changed)
    _count(context, old["charge"])
    return changed


def _charge(context: Context, params: Params) -> Record:
    """Return the charge to refund. Raises a 400."""
    if "charge" in params:
        return context.get_referenced(charges.KIND, params["charge"], "charge")
    if "payment_intent" not in params:
        raise invalid(
            "One of the following params should be provided for this request: "
            "payment_intent or charge."
        )
    id = params["payment_intent"]
    intent = context.get_referenced("payment_intent", id, "payment_intent")
    if intent["status"] != "succeeded":
        raise invalid(
            f"This PaymentIntent ({id}) does not have a successful charge to refund."
        )
    return context.get(charges.KIND, intent["latest_charge"])


def _check(context: Context, charge: Record, amount: int | None) -> int:
    """Return the amount to refund. Raises a 400."""
    id, currency = charge["id"], charge["currency"]
    if charge["status"] != "succeeded":
        raise invalid(f"Charge {id} has not succeeded; cannot issue a refund.")
    disputes = context.store.scan("dispute", index=("charge", id))
    if not all(dispute["is_charge_refundable"] for dispute in disputes):
        raise invalid(
            f"Charge {id} has been charged back; cannot issue a refund.",
            code="charge_disputed",
        )
    left = charge["amount"] - charge["amount_refunded"]
    if not left:
        raise invalid(
            f"Charge {id} has already been refunded.", code="charge_already_refunded"
        )
    amount = left if amount is None else amount
    check_amount(amount, currency, "amount")
    if amount > left:
        raise invalid(
            f"Refund amount ({currencies.text(amount, currency)}) is greater than "
            f"unrefunded amount on charge ({currencies.text(left, currency)})",
            param="amount",
        )
    return amount


def _outlook(context: Context, charge: Record) -> dict[str, Any]:
    """Return the status of a new refund, and its future in private fields.

    Docs page "Refund and cancel payments": that of a bank debit is pending for days.
    """
    method = context.store.get("payment_method", charge["payment_method"]) or {}
    pending = {"pending_reason": "processing", "status": "pending"}
    if charge["payment_method_details"]["type"] != "card":
        days = context.settings.bank_debit_days
        return {**pending, "_outcome": None, "_settles_at": context.now + days * DAY}
    behaviour = CARDS[method["_card"]].refunds if "_card" in method else "succeed"
    if behaviour == "succeed":
        return {"_outcome": None, "_settles_at": None}
    fails = behaviour == "fail"
    return {
        **({} if fails else pending),
        "_outcome": "expired_or_canceled_card" if fails else None,
        "_settles_at": context.now + TEST_CARD_DELAY,
    }


def _count(context: Context, charge: str, event: str | None = None) -> None:
    """Update a charge's refunded amount from its refunds."""
    refunds = context.store.scan(KIND, index=("charge", charge))
    total = sum(item["amount"] for item in refunds if item["status"] not in ENDED)
    with context.update(charges.KIND, charge, event) as draft:
        draft.update(amount_refunded=total, refunded=total == draft["amount"])
    fraud_warnings.refresh(context, draft)


def _replace(context: Context, changed: Record) -> Record:
    """Store a changed refund and emit its events."""
    before = context.serialize(context.get(KIND, changed["id"]))
    context.store.put(KIND, changed)
    if previous := difference(before, context.serialize(changed)):
        for event in UPDATED:
            context.emit(event, changed, previous)
    return changed


def _settle_in_time(context: Context, refund: Record) -> None:
    settle(context, refund["id"], failure_reason=refund["_outcome"])


resource.timer = Timer(lambda refund: refund["_settles_at"], _settle_in_time)
