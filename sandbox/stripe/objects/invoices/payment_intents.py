"""Endpoints of payment intents (docs: API reference, PaymentIntents).

In the sandbox only invoices create them: none is created or updated over the API.
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import StripeError, invalid
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import Choice, Range, Shape, Text, listing
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.invoices import pay
from sandbox.stripe.objects.payments import attempt, payment_methods
from sandbox.stripe.objects.schemas import payment_intent
from sandbox.stripe.objects.schemas.payment_intent import FINAL, KIND
from sandbox.stripe.store.records import Record

URL = "/v1/payment_intents"
OBJECT_URL = f"{URL}/{{id}}"
resource = Resource(KIND, indexes=("customer",), render=payment_intent.render)

REASONS = ("abandoned", "duplicate", "fraudulent", "requested_by_customer")


@resource.get(URL, listing(created=Range(), customer=Text()))
def list_(context: Context, params: Params) -> Record:
    """Return payment intents, newest first."""
    customer = params.get("customer")
    index = ("customer", customer) if customer else None
    return page(context.store, KIND, URL, params, index=index)


@resource.get(OBJECT_URL, Shape({"client_secret": Text()}))
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return a payment intent. Raises a 404."""
    return context.get(KIND, id)


@resource.post(
    f"{OBJECT_URL}/confirm",
    Shape(
        {
            "payment_method": Text(),
            "return_url": Text(),
        }
    ),
)
def confirm(context: Context, params: Params, id: str) -> Record:
    """Charge a card on session; with 3D Secure the intent then requires action.

    Raises a 400 or a 402.
    """
    intent = context.get(KIND, id)
    if intent["status"] in FINAL:
        raise _unexpected_status("confirm", intent)
    method = params.get("payment_method", intent["payment_method"])
    if method is None:
        raise _unexpected_state(
            "You cannot confirm this PaymentIntent because it's missing a payment "
            "method. Confirm it again with a payment method."
        )
    customer = intent["customer"]
    card = payment_methods.get_usable(context, method, customer, "payment_method")
    pay.attempt(context, intent["_invoice"], card["id"], off_session=False)
    confirmed = context.get(KIND, id)
    # Only a decline is an error; a pending challenge is a normal response.
    if confirmed["status"] == "requires_payment_method":
        raise attempt.failure_error(context, id)
    return confirmed


@resource.post(f"{OBJECT_URL}/cancel", Shape({"cancellation_reason": Choice(REASONS)}))
def cancel(context: Context, params: Params, id: str) -> Record:
    """Raise a 400, or a 404: an invoice's intent ends only with its invoice."""
    intent = context.get(KIND, id)
    if intent["status"] in FINAL:
        raise _unexpected_status("cancel", intent)
    raise invalid(
        "You cannot cancel PaymentIntents created by invoices. Try voiding the invoice "
        "instead."
    )


def _unexpected_status(action: str, intent: Record) -> StripeError:
    return _unexpected_state(
        f"You cannot {action} this PaymentIntent because it has a status of "
        f"{intent['status']}."
    )


def _unexpected_state(message: str) -> StripeError:
    return invalid(message, code="payment_intent_unexpected_state")
