"""Charges: one per payment attempt that reached the card (API reference, Charges)."""

from typing import Any

from sandbox.stripe.api.context import Context, clone
from sandbox.stripe.api.params import Shape
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.schemas.test_cards import Decline
from sandbox.stripe.store.records import Record

KIND = "charge"
resource = Resource(KIND)


@resource.get("/v1/charges/{id}", Shape())
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return a charge. Raises a 404."""
    return context.get(KIND, id)


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
        **_defaults(),
        "id": context.ids.new("ch"),
        "object": KIND,
        "amount": intent["amount"],
        "amount_captured": 0 if decline else intent["amount"],
        # Copies: later updates of the payment method do not change the charge.
        "billing_details": clone(method["billing_details"]),
        "captured": decline is None,
        "created": context.now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "failure_code": decline.code if decline else None,
        "failure_message": decline.message if decline else None,
        "outcome": _outcome(decline),
        "paid": decline is None,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {
            "card": _card(method["card"], intent["amount"], authenticated),
            "type": "card",
        },
        "status": "failed" if decline else "succeeded",
    }
    event = "charge.failed" if decline else "charge.succeeded"
    return context.insert(charge, event)


def _outcome(decline: Decline | None) -> dict[str, Any]:
    # Fixed values: the sandbox does not model Radar's risk evaluation.
    outcome = {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "approved_by_network",
        "reason": None,
        "risk_level": "normal",
        "risk_score": 20,
        "rule": None,
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
    copied = (
        "brand",
        "checks",
        "country",
        "description",
        "exp_month",
        "exp_year",
        "fingerprint",
        "funding",
        "iin",
        "issuer",
        "last4",
        "regulated_status",
        "wallet",
    )
    return {
        **{name: clone(card[name]) for name in copied},
        "amount_authorized": amount,
        "authorization_code": None,
        "capture_before": None,
        "electronic_commerce_indicator": None,
        "extended_authorization": {"status": "disabled"},
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "mandate": None,
        "moto": None,
        "multicapture": {"status": "unavailable"},
        "network": card["brand"],
        "network_token": {"used": False},
        "network_transaction_id": None,
        "overcapture": {"maximum_amount_capturable": amount, "status": "unavailable"},
        "setup_credential_usage": None,
        "stored_credential_usage": None,
        "three_d_secure": _three_d_secure() if authenticated else None,
        "transaction_link_id": None,
    }


def _three_d_secure() -> dict[str, Any]:
    return {
        "authentication_flow": "challenge",
        "electronic_commerce_indicator": "05",
        "exemption_indicator": None,
        "exemption_indicator_applied": None,
        "result": "authenticated",
        "result_reason": None,
        "transaction_id": None,
        "version": "2.2.0",
    }


def _defaults() -> dict[str, Any]:
    return {
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "authorization_code": None,
        "balance_transaction": None,
        "calculated_statement_descriptor": "SANDBOX",
        "disputed": False,
        "failure_balance_transaction": None,
        "fraud_details": None,
        "level3": None,
        "livemode": False,
        "metadata": {},
        "on_behalf_of": None,
        "presentment_details": None,
        "radar_options": None,
        "receipt_email": None,
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "transfer": None,
        "transfer_data": None,
        "transfer_group": None,
    }
