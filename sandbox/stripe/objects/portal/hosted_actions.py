"""Customer actions on Stripe's hosted pages: paying an invoice, adding a card.

Sources: docs pages "Hosted Invoice Page" and "Customer portal".
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.objects.invoices import pay as invoice_payment
from sandbox.stripe.objects.invoices import payment_records
from sandbox.stripe.objects.payments import payment_methods
from sandbox.stripe.store.records import Record


def pay(
    context: Context, invoice_id: str, card: str, *, challenge: str | None = None
) -> Record:
    """Pay an open invoice on session with a new card; return the PaymentIntent.

    `card` is the name or number of a test card, or the name of a test bank account.
    `challenge` is the outcome of its 3D Secure challenge, `succeeded` or `failed`; None
    leaves it pending. After a decline the intent has the error. Raises a 400, 402 or
    404 if nothing was attempted.
    """
    invoice = invoice_payment.get_payable(context, invoice_id)
    method = payment_methods.create_from_name(context, card)
    invoice_payment.attempt(context, invoice_id, method["id"], off_session=False)
    id = payment_records.get_intent_id(context, invoice)
    intent = context.get("payment_intent", id)
    if intent["status"] == "requires_action" and challenge is not None:
        return authenticate(context, id, passed=challenge == "succeeded")
    return intent


def authenticate(context: Context, intent: str, *, passed: bool) -> Record:
    """Complete the 3D Secure challenge of a PaymentIntent. Raises a 400 or a 404."""
    invoice_payment.authenticate(context, intent, passed=passed)
    return context.get("payment_intent", intent)


def add_card(context: Context, customer_id: str, card: str) -> Record:
    """Attach a new card to a customer and make it the default, as the portal does.

    The cardholder passes 3D Secure, so off-session charges need no challenge. Raises
    a 402 or a 404.
    """
    customer = context.get_live("customer", customer_id)
    method = payment_methods.create_from_name(context, card)
    saved = payment_methods.attach(context, method, customer["id"], set_up=True)
    payment_methods.set_default(context, customer["id"], saved["id"])
    return saved
