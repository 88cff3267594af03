"""One attempt to pay a payment intent, and its cancellation.

Source: docs page "How PaymentIntents and SetupIntents work".
"""

from typing import Any

from sandbox.stripe.api.context import Context, clone
from sandbox.stripe.api.errors import StripeError
from sandbox.stripe.objects.payments import charges, payment_methods
from sandbox.stripe.objects.payments.outcomes import Outcome
from sandbox.stripe.objects.schemas.payment_intent import (
    FINAL,
    KIND,
    current_amount,
    next_action,
    payment_error,
)
from sandbox.stripe.store.records import Record

REQUIRES_ACTION = "invoice_payment_intent_requires_action"


def execute(
    context: Context,
    id: str,
    method: Record,
    outcome: Outcome,
    *,
    on_session: bool,
    authenticated: bool = False,
) -> None:
    """Apply the outcome to the intent: its status, charge and events."""
    if outcome.challenge:
        _challenge(context, id, method)
        return
    intent = context.get(KIND, id)
    # Credit notes may have reduced the amount since the intent was created.
    intent = {**intent, "amount": current_amount(context.store, intent)}
    charge = charges.create(
        context, intent, method, outcome.decline, authenticated=authenticated
    )
    if outcome.decline:
        error = payment_error(
            **outcome.decline.error_fields(),
            charge=charge["id"],
            payment_method=clone(context.serialize(method)),
        )
        fail(context, id, error, charge=charge["id"])
        return
    _succeed(context, id, method, charge)
    save = on_session and intent["setup_future_usage"] is not None
    payment_methods.record_charge(context, method, intent["customer"], save=save)


def fail(
    context: Context, id: str, error: dict[str, Any], *, charge: str | None = None
) -> None:
    """Record a failed attempt: the intent then requires another payment method."""
    with context.update(KIND, id) as draft:
        draft.update(
            last_payment_error=error,
            latest_charge=charge or draft["latest_charge"],
            next_action=None,
            payment_method=None,
            status="requires_payment_method",
        )
    context.emit("payment_intent.payment_failed", context.get(KIND, id))


def fail_authentication(context: Context, id: str, method: Record) -> None:
    """Record an attempt that failed because the 3D Secure challenge was not passed."""
    error = payment_error(
        code="payment_intent_authentication_failure",
        message=(
            "The provided PaymentMethod has failed authentication. You can provide a "
            "new PaymentMethod to attempt to fulfill this PaymentIntent again."
        ),
        payment_method=clone(context.serialize(method)),
        type="invalid_request_error",
    )
    fail(context, id, error)


def cancel(context: Context, id: str, reason: str | None) -> None:
    """Cancel the intent, unless it has already ended."""
    intent = context.get(KIND, id)
    if intent["status"] in FINAL:
        return
    # Paid out of band, nothing remains: the intent keeps the amount it had.
    amount = current_amount(context.store, intent) or intent["amount"]
    with context.update(KIND, id) as draft:
        draft.update(
            amount=amount,
            canceled_at=context.now,
            cancellation_reason=reason,
            next_action=None,
            status="canceled",
        )
    context.emit("payment_intent.canceled", context.get(KIND, id))


def failure_error(
    context: Context, id: str, *, code: str = REQUIRES_ACTION, committed: bool = True
) -> StripeError:
    """Return the 402 for an intent whose attempt did not succeed.

    `code` is the error code for a pending challenge; it differs between invoices and
    subscriptions. With `committed` the failed attempt stays stored.
    """
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
            code=code,
            committed=committed,
            payment_intent=rendered,
            payment_method=context.serialize(method),
        )
    error = dict(intent["last_payment_error"])
    names = ("advice_code", "charge", "code", "decline_code", "payment_method", "type")
    return StripeError(
        402,
        error["message"],
        committed=committed,
        payment_intent=rendered,
        **{name: error[name] for name in names},
    )


def _challenge(context: Context, id: str, method: Record) -> None:
    with context.update(KIND, id) as draft:
        draft.update(
            last_payment_error=None,
            next_action=next_action(context, method["id"]),
            payment_method=method["id"],
            status="requires_action",
        )
    context.emit("payment_intent.requires_action", context.get(KIND, id))


def _succeed(context: Context, id: str, method: Record, charge: Record) -> None:
    with context.update(KIND, id) as draft:
        draft.update(
            amount=charge["amount"],
            amount_received=charge["amount"],
            last_payment_error=None,
            latest_charge=charge["id"],
            next_action=None,
            payment_method=method["id"],
            status="succeeded",
        )
    context.emit("payment_intent.succeeded", context.get(KIND, id))
