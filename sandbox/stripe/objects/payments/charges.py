"""Charges: one per payment attempt that reached the card (API reference, Charges)."""

from typing import Any

from sandbox.stripe.api.context import Context, clone
from sandbox.stripe.api.routing import Resource
from sandbox.stripe.objects.fields import nulls
from sandbox.stripe.objects.schemas.test_cards import Decline
from sandbox.stripe.store.records import Record

KIND = "charge"
resource = Resource(KIND)

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


resource.retrievable("/v1/charges")


def create(
    context: Context,
    intent: Record,
    method: Record,
    decline: Decline | None,
    *,
    authenticated: bool,
) -> Record:
    """Store the charge for a payment intent; emit `charge.succeeded` or `.failed`."""
    charge = {
        **NULL_FIELDS,
        **context.new(KIND, "ch"),
        "amount": intent["amount"],
        "amount_captured": 0 if decline else intent["amount"],
        "amount_refunded": 0,
        # Copies: later updates of the payment method do not change the charge.
        "billing_details": clone(method["billing_details"]),
        "calculated_statement_descriptor": "SANDBOX",
        "captured": decline is None,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_code": decline.code if decline else None,
        "failure_message": decline.message if decline else None,
        "metadata": {},
        "outcome": _outcome(decline),
        "paid": decline is None,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {
            "card": _card(method["card"], intent["amount"], authenticated),
            "type": "card",
        },
        "refunded": False,
        "status": "failed" if decline else "succeeded",
    }
    event = "charge.failed" if decline else "charge.succeeded"
    return context.insert(charge, event)


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
