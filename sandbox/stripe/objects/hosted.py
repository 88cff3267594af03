"""What a person does on Stripe's own pages: paying an invoice, adding a card.

Sources: docs pages "Hosted Invoice Page" and "Customer portal".
"""

from typing import NamedTuple

from sandbox.stripe.context import Context
from sandbox.stripe.objects import (
    invoice_payment,
    invoice_payments,
    payment_methods,
)
from sandbox.stripe.store import Record


class Receipt(NamedTuple):
    """How a payment went; `intent` says why it failed or what it waits for."""

    invoice: Record
    intent: Record


def pay(
    context: Context, invoice_id: str, card: str, *, challenge: str | None = None
) -> Receipt:
    """Pay an open invoice with a new card, its holder being there.

    `card` is a test card's name or number; `challenge` is how its 3D Secure
    challenge ends, `succeeded` or `failed`, and None leaves that for later. A decline
    is in the receipt. Raises a 400, 402 or 404 when nothing was attempted.
    """
    invoice = invoice_payment.payable(context, invoice_id)
    method = payment_methods.from_card(context, card)
    invoice_payment.attempt(context, invoice_id, method["id"], off_session=False)
    intent = invoice_payments.intent_of(context, invoice)
    waits = context.get("payment_intent", intent)["status"] == "requires_action"
    if waits and challenge is not None:
        invoice_payment.authenticate(context, intent, passed=challenge == "succeeded")
    return receipt(context, intent)


def authenticate(context: Context, intent: str, *, passed: bool) -> Receipt:
    """End the 3D Secure challenge of a payment. Raises a 400 or a 404."""
    invoice_payment.authenticate(context, intent, passed=passed)
    return receipt(context, intent)


def receipt(context: Context, intent: str) -> Receipt:
    """Return how things stand with a payment. Raises a 404."""
    record = context.get("payment_intent", intent)
    return Receipt(context.get("invoice", record["_invoice"]), record)


def add_card(context: Context, customer_id: str, card: str) -> Record:
    """Save a new card of a customer and make it the default, as the portal does.

    Its holder passes the 3D Secure challenge, so charges off session need none.
    Raises a 402 or a 404.
    """
    customer = context.get_live("customer", customer_id)
    method = payment_methods.from_card(context, card)
    saved = payment_methods.attach(context, method, customer["id"], set_up=True)
    with context.update("customer", customer["id"], "customer.updated") as draft:
        draft["invoice_settings"]["default_payment_method"] = saved["id"]
    return saved
