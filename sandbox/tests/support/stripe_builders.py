"""Short ways to the objects that the sandbox Stripe's tests begin with."""

import subprocess
from typing import Any

import pytest
import stripe

DAY = 86_400
HOUR = 3_600


def customer(api: stripe.StripeClient, **params: Any) -> stripe.Customer:
    """Return a customer with an e-mail address."""
    given: Any = {"email": "ann@example.com", **params}
    return api.v1.customers.create(given)


def price(
    api: stripe.StripeClient, unit_amount: int = 1_000, **params: Any
) -> stripe.Price:
    """Return a monthly price of a new product."""
    given: Any = {
        "currency": "usd",
        "unit_amount": unit_amount,
        "recurring": {"interval": "month"},
        "product_data": {"name": "Relay"},
        **params,
    }
    return api.v1.prices.create(given)


def subscription(
    api: stripe.StripeClient,
    *prices: stripe.Price,
    to: stripe.Customer | None = None,
    quantity: int = 1,
    **params: Any,
) -> stripe.Subscription:
    """Return a `send_invoice` subscription to the prices, due in seven days."""
    given: Any = {
        "customer": (to or customer(api)).id,
        "items": [
            {"price": one.id, "quantity": quantity} for one in prices or (price(api),)
        ],
        "collection_method": "send_invoice",
        "days_until_due": 7,
        **params,
    }
    return api.v1.subscriptions.create(given)


def first_invoice(
    api: stripe.StripeClient, subscribed: stripe.Subscription
) -> stripe.Invoice:
    """Return the invoice the subscription started with, finalized."""
    return api.v1.invoices.finalize_invoice(str(subscribed.latest_invoice))


def card(
    api: stripe.StripeClient, owner: str, name: str = "pm_card_visa"
) -> stripe.PaymentMethod:
    """Return a test card that is attached to the customer and its default."""
    attached = api.v1.payment_methods.attach(name, {"customer": owner})
    api.v1.customers.update(
        owner, {"invoice_settings": {"default_payment_method": attached.id}}
    )
    return attached


def automatic(
    api: stripe.StripeClient, *, to: stripe.Customer, amount: int = 1_000, **params: Any
) -> stripe.Subscription:
    """Return a monthly subscription that is charged automatically."""
    given: Any = {
        "customer": to.id,
        "items": [{"price": price(api, amount).id}],
        **params,
    }
    return api.v1.subscriptions.create(given)


def paying_customer(
    api: stripe.StripeClient, card_name: str = "pm_card_visa", **params: Any
) -> tuple[stripe.Customer, stripe.PaymentMethod]:
    """Return a customer and the test card that is their default."""
    made = customer(api, **params)
    method = card(api, made.id, card_name)
    return api.v1.customers.retrieve(made.id), method


def open_invoice(
    api: stripe.StripeClient, to: stripe.Customer | None = None, **params: Any
) -> Any:
    """Return an open invoice over $10 that was sent, with its payments."""
    id = first_invoice(api, subscription(api, to=to, **params)).id
    return api.v1.invoices.retrieve(id, {"expand": ["payments"]})


def intent_of(api: stripe.StripeClient, invoice: str) -> Any:
    """Return the payment intent of an invoice."""
    listed = api.v1.invoice_payments.list(
        {"invoice": invoice, "expand": ["data.payment.payment_intent"]}
    )
    return listed.data[0].payment.payment_intent


def pay_error(
    api: stripe.StripeClient, invoice: str, **params: Any
) -> stripe.CardError:
    """Return the error of a card that does not pay the invoice."""
    given: Any = params
    with pytest.raises(stripe.CardError) as caught:
        api.v1.invoices.pay(invoice, given)
    return caught.value


def newest_invoice(api: stripe.StripeClient, subscribed: stripe.Subscription) -> Any:
    """Return the newest invoice of the subscription."""
    return api.v1.invoices.list({"subscription": subscribed.id}).data[0]


def status_of(api: stripe.StripeClient, subscribed: stripe.Subscription) -> str:
    """Return the status the subscription has now."""
    return str(api.v1.subscriptions.retrieve(subscribed.id).status)


def script(api: stripe.StripeClient, owner: stripe.Customer, words: str) -> None:
    """Say what the next charges of the customer come to."""
    api.v1.customers.update(owner.id, {"metadata": {"sandbox_outcome": words}})


def latest_event(api: stripe.StripeClient) -> str:
    """Return the id of the newest event."""
    return api.v1.events.list({"limit": 1}).data[0].id


def types_since(api: stripe.StripeClient, event: str) -> list[str]:
    """Return the types of the events after this one, oldest first."""
    newer = api.v1.events.list({"ending_before": event, "limit": 100}).data
    return [one.type for one in reversed(newer)]


def event_types(api: stripe.StripeClient) -> list[str]:
    """Return the types of all events, oldest first."""
    return [event.type for event in reversed(api.v1.events.list({"limit": 100}).data)]


def error_of(error: stripe.StripeError) -> dict[str, Any]:
    """Return the error as it stands in the body of the answer."""
    body: Any = error.json_body
    return dict(body["error"])


def first_line(process: subprocess.Popen[str]) -> str:
    """Return the first line a command prints."""
    assert process.stdout is not None
    return str(process.stdout.readline())
