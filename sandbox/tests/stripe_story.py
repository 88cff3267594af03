"""Short ways to the objects that the sandbox Stripe's tests begin with."""

import subprocess
from typing import Any

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
