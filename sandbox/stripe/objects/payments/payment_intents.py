"""Payment intents: each belongs to an invoice (SDK type PaymentIntent).

Source: docs page "How PaymentIntents and SetupIntents work". The API only reads them:
here an intent is confirmed by paying its invoice, and canceled with it.
"""

from typing import Any

from sandbox.stripe.api.context import Context, clone
from sandbox.stripe.api.errors import StripeError, invalid
from sandbox.stripe.api.params import Text
from sandbox.stripe.api.routing import Resource, public
from sandbox.stripe.objects.fields import nulls, zeros
from sandbox.stripe.objects.payments import charges, payment_methods
from sandbox.stripe.objects.payments.outcomes import Outcome
from sandbox.stripe.store.records import Record, Store

KIND = "payment_intent"
URL = "/v1/payment_intents"
FINAL = frozenset({"canceled", "succeeded"})
DESCRIPTIONS = {
    "manual": "Payment for Invoice",
    "subscription_create": "Subscription creation",
}
INITIAL = {
    **nulls(
        "allowed_payment_method_types application application_fee_amount "
        "automatic_payment_methods canceled_at cancellation_reason customer_account "
        "excluded_payment_method_types last_payment_error latest_charge "
        "managed_payments next_action on_behalf_of "
        "payment_method_configuration_details payment_method_options payment_record "
        "processing receipt_email review setup_future_usage shipping source "
        "statement_descriptor statement_descriptor_suffix transfer_data transfer_group"
    ),
    **zeros("amount_capturable amount_received"),
}


def _render(store: Store, record: Record) -> dict[str, Any]:
    return {**public(store, record), "amount": current_amount(store, record)}


resource = Resource(KIND, indexes=("customer",), render=_render)
resource.listable(URL, customer=Text())
resource.retrievable(URL)


def current_amount(store: Store, record: Record) -> int:
    """Return the amount of an intent: the invoice's remaining one until it ends.

    Source: SDK docstring of InvoicePayment.is_default.
    """
    invoice = store.get("invoice", record["_invoice"])
    if invoice is None or record["status"] in FINAL:
        return int(record["amount"])
    return int(invoice["amount_remaining"])


def create(context: Context, invoice: Record) -> Record:
    """Store the intent for an invoice that is being finalized.

    It gets a payment method with the first attempt: recordings of open invoices.
    """
    base, reason = context.new(KIND, "pi"), invoice["billing_reason"]
    intent = {
        **INITIAL,
        **base,
        "amount": invoice["amount_remaining"],
        "capture_method": "automatic",
        "client_secret": context.ids.new(f"{base['id']}_secret", 25),
        "confirmation_method": "automatic",
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "description": DESCRIPTIONS.get(reason, "Subscription update"),
        "metadata": {},
        "payment_details": {
            "customer_reference": None,
            "order_reference": invoice["id"],
        },
        "payment_method": None,
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
        "_invoice": invoice["id"],
    }
    return context.insert(intent, "payment_intent.created")


def execute(
    context: Context,
    id: str,
    method: Record,
    outcome: Outcome,
    *,
    authenticated: bool = False,
) -> None:
    """Apply the outcome of an attempt to the intent: its status, charge and events."""
    if outcome.challenge:
        _challenge(context, id, method)
        return
    intent = context.get(KIND, id)
    # Credit notes may have reduced the amount since the intent was created.
    intent = {**intent, "amount": current_amount(context.store, intent)}
    charge = charges.create(
        context, intent, method, outcome, authenticated=authenticated
    )
    if outcome.processing:
        _process(context, id, method, charge)
        return
    if outcome.decline:
        error = {"charge": charge["id"], **outcome.decline.error_fields()}
        _fail(context, id, method, error, latest_charge=charge["id"])
        return
    _succeed(context, id, method, charge)


def settle(context: Context, id: str, *, failure: str | None = None) -> None:
    """End the processing of a bank debit: it succeeds, or fails with a code.

    Raises a 400 if the intent is not `processing`.
    """
    intent = context.get(KIND, id)
    if intent["status"] != "processing":
        raise invalid(
            f"This PaymentIntent's status is {intent['status']}: no bank debit is "
            "being processed.",
            code="payment_intent_unexpected_state",
        )
    method = context.get("payment_method", intent["payment_method"])
    charge = charges.settle(context, intent["latest_charge"], method, failure)
    if failure is None:
        _succeed(context, id, method, charge)
        return
    error = {
        "charge": charge["id"],
        # Assumed, with the bank's reason as `decline_code`.
        "code": "payment_intent_payment_attempt_failed",
        "decline_code": failure,
        "message": charge["failure_message"],
        "type": "invalid_request_error",
    }
    _fail(context, id, method, error)


def fail_authentication(context: Context, id: str, method: Record) -> None:
    """Record an attempt that failed because the 3D Secure challenge was not passed."""
    error = {
        "code": "payment_intent_authentication_failure",
        "message": (
            "The provided PaymentMethod has failed authentication. You can provide a "
            "new PaymentMethod to attempt to fulfill this PaymentIntent again."
        ),
        "type": "invalid_request_error",
    }
    _fail(context, id, method, error)


def cancel(context: Context, id: str, reason: str | None) -> None:
    """Cancel the intent, unless it has already ended."""
    intent = context.get(KIND, id)
    if intent["status"] in FINAL:
        return
    _update(
        context,
        id,
        "payment_intent.canceled",
        # Paid out of band, nothing remains: the intent keeps the amount it had.
        amount=current_amount(context.store, intent) or intent["amount"],
        canceled_at=context.now,
        cancellation_reason=reason,
        next_action=None,
        status="canceled",
    )


def failure_error(context: Context, id: str) -> StripeError:
    """Return the 402 for an intent whose attempt failed; the attempt stays stored."""
    intent = context.get(KIND, id)
    rendered = context.serialize(intent)
    if intent["status"] == "requires_action":
        method = context.get("payment_method", intent["payment_method"])
        return StripeError(
            402,
            "This payment requires additional user action before it can be completed "
            "successfully. It can be completed using the PaymentIntent associated with "
            "the invoice. Additional information is available here: "
            "https://stripe.com/docs/billing/subscriptions/overview#requires-action",
            type="card_error",
            code="invoice_payment_intent_requires_action",
            committed=True,
            payment_intent=rendered,
            payment_method=context.serialize(method),
        )
    error = intent["last_payment_error"]
    names = ("advice_code", "charge", "code", "decline_code", "payment_method", "type")
    return StripeError(
        402,
        error["message"],
        committed=True,
        payment_intent=rendered,
        **{name: error[name] for name in names if name in error},
    )


def _succeed(context: Context, id: str, method: Record, charge: Record) -> None:
    _update(
        context,
        id,
        "payment_intent.succeeded",
        amount=charge["amount"],
        amount_received=charge["amount"],
        last_payment_error=None,
        latest_charge=charge["id"],
        next_action=None,
        payment_method=method["id"],
        status="succeeded",
    )
    payment_methods.record_charge(context, method)


def _process(context: Context, id: str, method: Record, charge: Record) -> None:
    """Wait for a bank debit (docs page "How PaymentIntents work", `processing`)."""
    _update(
        context,
        id,
        "payment_intent.processing",
        amount=charge["amount"],
        last_payment_error=None,
        latest_charge=charge["id"],
        next_action=None,
        payment_method=method["id"],
        payment_method_types=["card", method["type"]],
        status="processing",
    )
    payment_methods.record_charge(context, method)


def _challenge(context: Context, id: str, method: Record) -> None:
    """Require a 3D Secure challenge in the browser."""
    token = context.ids.new("test", 32)
    stripe_js = f"https://hooks.stripe.com/3d_secure_2/hosted?source={token}"
    _update(
        context,
        id,
        "payment_intent.requires_action",
        last_payment_error=None,
        next_action={
            "type": "use_stripe_sdk",
            "use_stripe_sdk": {
                "source": method["id"],
                "stripe_js": stripe_js,
                "type": "three_d_secure_redirect",
            },
        },
        payment_method=method["id"],
        status="requires_action",
    )


def _fail(
    context: Context, id: str, method: Record, error: dict[str, Any], **changes: Any
) -> None:
    """Record a failed attempt: the intent then requires another payment method."""
    code = error["code"].replace("_", "-")
    _update(
        context,
        id,
        "payment_intent.payment_failed",
        last_payment_error={
            "doc_url": f"https://stripe.com/docs/error-codes/{code}",
            "payment_method": clone(context.serialize(method)),
            "payment_method_type": method["type"],
            **error,
        },
        next_action=None,
        payment_method=None,
        status="requires_payment_method",
        **changes,
    )


def _update(context: Context, id: str, event: str, **changes: Any) -> None:
    context.emit(event, context.change(KIND, id, **changes))
