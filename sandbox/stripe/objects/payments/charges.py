"""Charges: one per payment attempt that reached the card (API reference, Charges)."""

from typing import Any

from sandbox.stripe.api.context import Context, clone
from sandbox.stripe.api.pagination import list_object
from sandbox.stripe.api.params import Text
from sandbox.stripe.api.routing import Resource, public
from sandbox.stripe.clock.periods import DAY
from sandbox.stripe.objects.fields import nulls
from sandbox.stripe.objects.payments.outcomes import Outcome
from sandbox.stripe.objects.schemas.test_bank_accounts import ACCOUNTS
from sandbox.stripe.objects.schemas.test_cards import CARDS, Decline
from sandbox.stripe.store.records import Record, Store

KIND = "charge"
URL = "/v1/charges"
# Assumed: a test card disputes its charge within seconds. A minute on this clock, so
# that real time does not decide what comes first.
REACTION_DELAY = 60

NULL_FIELDS = nulls(
    "application application_fee application_fee_amount balance_transaction "
    "failure_balance_transaction fraud_details on_behalf_of receipt_email "
    "receipt_number receipt_url review shipping source source_transfer "
    "statement_descriptor statement_descriptor_suffix transfer_data transfer_group"
)
NULL_CARD_FIELDS = nulls(
    "authorization_code electronic_commerce_indicator installments mandate moto "
    "network_transaction_id transaction_link_id"
)
THREE_D_SECURE = {
    "authentication_flow": "challenge",
    "electronic_commerce_indicator": "05",
    "result": "authenticated",
    "version": "2.2.0",
    **nulls("exemption_indicator result_reason transaction_id"),
}
# Fields of a card that a charge does not copy.
UNCOPIED = frozenset(
    {"display_brand", "generated_from", "networks", "three_d_secure_usage"}
)


def _refunds(store: Store, charge: Record) -> dict[str, Any]:
    """Return a charge's `refunds`, included only when expanded."""
    refunds = store.scan("refund", index=("charge", charge["id"]))
    data = [public(store, refund) for refund in refunds]
    return list_object(data, f"{URL}/{charge['id']}/refunds")


resource = Resource(
    KIND, indexes=("customer", "payment_intent"), includable={"refunds": _refunds}
)
resource.listable(URL, customer=Text(), payment_intent=Text())
resource.retrievable(URL)


def create(
    context: Context,
    intent: Record,
    method: Record,
    outcome: Outcome,
    *,
    authenticated: bool,
) -> Record:
    """Store the charge for a payment intent; emit an event with its status."""
    decline, is_pending = outcome.decline, outcome.processing
    is_paid = not (decline or is_pending)
    status = "pending" if is_pending else "failed" if decline else "succeeded"
    charge = {
        **NULL_FIELDS,
        **context.new(KIND, "ch" if method["type"] == "card" else "py"),
        "amount": intent["amount"],
        "amount_captured": intent["amount"] if is_paid else 0,
        "amount_refunded": 0,
        # Copies: later updates of the payment method do not change the charge.
        "billing_details": clone(method["billing_details"]),
        "calculated_statement_descriptor": "SANDBOX",
        "captured": is_paid,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_code": decline.code if decline else None,
        "failure_message": decline.message if decline else None,
        "metadata": {},
        "outcome": _outcome(decline),
        "paid": is_paid,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": _details(method, intent["amount"], authenticated),
        "refunded": False,
        "status": status,
        "_acts_at": _next_step_at(context, method, status),
    }
    return context.insert(charge, f"charge.{status}")


def settle(context: Context, id: str, method: Record, failure: str | None) -> Record:
    """Let a pending charge succeed, or fail with a code; emit an event."""
    charge = context.get(KIND, id)
    if failure is None:
        changes: dict[str, Any] = {
            "amount_captured": charge["amount"],
            "captured": True,
            "paid": True,
            "status": "succeeded",
        }
    else:
        changes = {
            "failure_code": failure,
            "failure_message": "The bank returned the debit.",
            "status": "failed",
        }
    at = _next_step_at(context, method, changes["status"])
    changed = context.change(KIND, id, **changes, _acts_at=at)
    context.emit(f"charge.{changed['status']}", changed)
    return changed


def _next_step_at(context: Context, method: Record, status: str) -> int | None:
    """Return when a bank settles a charge, or a network disputes it."""
    account = ACCOUNTS.get(method.get("_bank_account", ""))
    if status == "pending" and account and not account.endless:
        return context.now + context.settings.bank_debit_days * DAY
    card = CARDS.get(method.get("_card", ""))
    reacts = (account and account.dispute) or (
        card and (card.dispute or card.fraud_warning)
    )
    succeeded = status == "succeeded"
    return context.now + REACTION_DELAY if succeeded and reacts else None


def _details(method: Record, amount: int, authenticated: bool) -> dict[str, Any]:
    type = method["type"]
    if type == "card":
        return {"card": _card(method["card"], amount, authenticated), "type": type}
    return {type: ACCOUNTS[method["_bank_account"]].of_charge(), "type": type}


def _outcome(decline: Decline | None) -> dict[str, Any]:
    # Fixed values: the sandbox does not model Radar's risk evaluation.
    outcome = {
        **nulls("advice_code network_advice_code network_decline_code reason"),
        "network_status": "approved_by_network",
        "risk_level": "normal",
        "risk_score": 20,
        "seller_message": "Payment complete.",
        "type": "authorized",
    }
    if decline is None:
        return outcome
    return {
        **outcome,
        "advice_code": decline.advice_code,
        "network_status": "declined_by_network",
        "reason": decline.decline_code or decline.code,
        "seller_message": "The bank declined the payment.",
        "type": "issuer_declined",
    }


def _card(card: Record, amount: int, authenticated: bool) -> dict[str, Any]:
    unavailable = {"status": "unavailable"}
    return {
        **NULL_CARD_FIELDS,
        **{name: clone(card[name]) for name in card.keys() - UNCOPIED},
        "amount_authorized": amount,
        "extended_authorization": {"status": "disabled"},
        "incremental_authorization": unavailable,
        "multicapture": unavailable,
        "network": card["brand"],
        "network_token": {"used": False},
        "overcapture": {"maximum_amount_capturable": amount, **unavailable},
        "three_d_secure": THREE_D_SECURE if authenticated else None,
    }
