"""Fields of payment intents (SDK type PaymentIntent); each belongs to an invoice."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.routing import public
from sandbox.stripe.objects.schemas.invoice import subscription_of
from sandbox.stripe.store.records import Record, Store

KIND = "payment_intent"
FINAL = frozenset({"canceled", "succeeded"})
DESCRIPTIONS = {
    "manual": "Payment for Invoice",
    "subscription_create": "Subscription creation",
}


def render(store: Store, record: Record) -> dict[str, Any]:
    """Return the intent with its current amount."""
    return {**public(store, record), "amount": current_amount(store, record)}


def current_amount(store: Store, record: Record) -> int:
    """Return the amount of an intent: the invoice's remaining one until it ends.

    Source: SDK docstring of InvoicePayment.is_default.
    """
    invoice = store.get("invoice", record["_invoice"])
    if invoice is None or record["status"] in FINAL:
        return int(record["amount"])
    return int(invoice["amount_remaining"])


def new_intent(context: Context, invoice: Record, method: str | None) -> dict[str, Any]:
    """Return the intent for an invoice that is being finalized.

    A subscription's card is saved for later charges if it is charged automatically
    (docs page "Save payment details": `setup_future_usage`).
    """
    id = context.ids.new("pi")
    automatic = invoice["collection_method"] == "charge_automatically"
    return {
        **_defaults(),
        "id": id,
        "object": KIND,
        "amount": invoice["amount_remaining"],
        "client_secret": context.ids.new(f"{id}_secret", 25),
        "created": context.now,
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "description": DESCRIPTIONS.get(
            invoice["billing_reason"], "Subscription update"
        ),
        "payment_details": {
            "customer_reference": None,
            "order_reference": invoice["id"],
        },
        "payment_method": method,
        "setup_future_usage": (
            "off_session" if automatic and subscription_of(invoice) else None
        ),
        "status": "requires_confirmation" if method else "requires_payment_method",
        "_invoice": invoice["id"],
    }


def next_action(context: Context, method: str) -> dict[str, Any]:
    """Return the `next_action` for a 3D Secure challenge in the browser."""
    token = context.ids.new("test", 32)
    return {
        "type": "use_stripe_sdk",
        "use_stripe_sdk": {
            "source": method,
            "stripe_js": f"https://hooks.stripe.com/3d_secure_2/hosted?source={token}",
            "type": "three_d_secure_redirect",
        },
    }


def payment_error(**fields: Any) -> dict[str, Any]:
    """Return a `last_payment_error` with all fields."""
    code = str(fields["code"]).replace("_", "-")
    return {
        "advice_code": None,
        "charge": None,
        "code": None,
        "decline_code": None,
        "doc_url": f"https://stripe.com/docs/error-codes/{code}",
        "message": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "param": None,
        "payment_intent": None,
        "payment_method": None,
        "payment_method_type": "card",
        "request_log_url": None,
        "setup_intent": None,
        "source": None,
        "type": "card_error",
        **fields,
    }


def _defaults() -> dict[str, Any]:
    return {
        "allowed_payment_method_types": None,
        "amount_capturable": 0,
        "amount_details": None,
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic",
        "confirmation_method": "automatic",
        "customer_account": None,
        "excluded_payment_method_types": None,
        "hooks": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "managed_payments": None,
        "metadata": {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method_configuration_details": None,
        "payment_method_options": None,
        "payment_method_types": ["card"],
        "payment_record": None,
        "presentment_details": None,
        "processing": None,
        "receipt_email": None,
        "review": None,
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "transfer_data": None,
        "transfer_group": None,
    }
