"""Builders of Stripe objects for tests with the sandbox."""

from typing import Any

import pytest
import stripe

DAY = 86_400
HOUR = 3_600


def customer(api: stripe.StripeClient, **params: Any) -> stripe.Customer:
    """Create a customer with an e-mail address."""
    fields: Any = {"email": "ann@example.com", **params}
    return api.v1.customers.create(fields)


def price(
    api: stripe.StripeClient, unit_amount: int = 1_000, **params: Any
) -> stripe.Price:
    """Create a monthly price with a new product."""
    fields: Any = {
        "currency": "usd",
        "unit_amount": unit_amount,
        "recurring": {"interval": "month"},
        "product_data": {"name": "Relay"},
        **params,
    }
    return api.v1.prices.create(fields)


def subscription(
    api: stripe.StripeClient,
    *prices: stripe.Price,
    to: stripe.Customer | None = None,
    quantity: int = 1,
    **params: Any,
) -> stripe.Subscription:
    """Create a `send_invoice` subscription to the prices, due in seven days."""
    fields: Any = {
        "customer": (to or customer(api)).id,
        "items": [
            {"price": item_price.id, "quantity": quantity}
            for item_price in prices or (price(api),)
        ],
        "collection_method": "send_invoice",
        "days_until_due": 7,
        **params,
    }
    return api.v1.subscriptions.create(fields)


def coupon(api: stripe.StripeClient, **params: Any) -> stripe.Coupon:
    """Create a coupon, by default of 50 % forever."""
    kind = {} if "amount_off" in params else {"percent_off": 50}
    fields: Any = {"duration": "forever", **kind, **params}
    return api.v1.coupons.create(fields)


def tax_rate(
    api: stripe.StripeClient, percentage: float = 20, *, inclusive: bool = False
) -> stripe.TaxRate:
    """Create a tax rate."""
    return api.v1.tax_rates.create(
        {"display_name": "VAT", "inclusive": inclusive, "percentage": percentage}
    )


def first_invoice(
    api: stripe.StripeClient, subscription: stripe.Subscription
) -> stripe.Invoice:
    """Finalize and return the first invoice of a subscription."""
    return api.v1.invoices.finalize_invoice(str(subscription.latest_invoice))


def card(
    api: stripe.StripeClient, owner: str, name: str = "pm_card_visa"
) -> stripe.PaymentMethod:
    """Attach a test card to a customer as the default and return it."""
    method = api.v1.payment_methods.attach(name, {"customer": owner})
    api.v1.customers.update(
        owner, {"invoice_settings": {"default_payment_method": method.id}}
    )
    return method


def automatic(
    api: stripe.StripeClient, *, to: stripe.Customer, amount: int = 1_000, **params: Any
) -> stripe.Subscription:
    """Create a monthly subscription that is charged automatically."""
    fields: Any = {
        "customer": to.id,
        "items": [{"price": price(api, amount).id}],
        **params,
    }
    return api.v1.subscriptions.create(fields)


def paying_customer(
    api: stripe.StripeClient, card_name: str = "pm_card_visa", **params: Any
) -> tuple[stripe.Customer, stripe.PaymentMethod]:
    """Create a customer with a default test card; return both."""
    created = customer(api, **params)
    method = card(api, created.id, card_name)
    return api.v1.customers.retrieve(created.id), method


def open_invoice(
    api: stripe.StripeClient, to: stripe.Customer | None = None, **params: Any
) -> Any:
    """Create an open `send_invoice` invoice over $10; its payments are expanded."""
    id = first_invoice(api, subscription(api, to=to, **params)).id
    return api.v1.invoices.retrieve(id, {"expand": ["payments"]})


def intent_of(api: stripe.StripeClient, invoice: str) -> Any:
    """Return the PaymentIntent of an invoice."""
    payments = api.v1.invoice_payments.list(
        {"invoice": invoice, "expand": ["data.payment.payment_intent"]}
    )
    return payments.data[0].payment.payment_intent


def paid_charge(
    api: stripe.StripeClient,
    card_name: str = "pm_card_visa",
    *,
    prices: tuple[stripe.Price, ...] = (),
) -> Any:
    """Return the charge of an invoice over $10 that is paid with a test card."""
    payer = customer(api)
    method = card(api, payer.id, card_name)
    invoice = first_invoice(api, subscription(api, *prices, to=payer))
    api.v1.invoices.pay(invoice.id, {"payment_method": method.id})
    return api.v1.charges.retrieve(intent_of(api, invoice.id).latest_charge)


def invoice_of(api: stripe.StripeClient, charge: stripe.Charge) -> Any:
    """Return the invoice that a charge has paid."""
    payment = {"type": "payment_intent", "payment_intent": charge.payment_intent}
    params: Any = {"payment": payment, "expand": ["data.invoice"]}
    return api.v1.invoice_payments.list(params).data[0].invoice


def pay_error(
    api: stripe.StripeClient, invoice: str, **params: Any
) -> stripe.CardError:
    """Pay an invoice, which must fail, and return the card error."""
    fields: Any = params
    with pytest.raises(stripe.CardError) as caught:
        api.v1.invoices.pay(invoice, fields)
    return caught.value


def count_customers(api: stripe.StripeClient) -> int:
    """Return the number of customers, up to 100."""
    return len(api.v1.customers.list({"limit": 100}).data)


def with_key(key: str) -> stripe.RequestOptions:
    """Return request options with an idempotency key."""
    return {"idempotency_key": key}


def newest_invoice(api: stripe.StripeClient, subscription: stripe.Subscription) -> Any:
    """Return the newest invoice of a subscription."""
    return api.v1.invoices.list({"subscription": subscription.id}).data[0]


def status_of(api: stripe.StripeClient, subscription: stripe.Subscription) -> str:
    """Return the current status of a subscription."""
    return str(api.v1.subscriptions.retrieve(subscription.id).status)


def script(api: stripe.StripeClient, owner: stripe.Customer, words: str) -> None:
    """Set the outcomes of the customer's next charges."""
    api.v1.customers.update(owner.id, {"metadata": {"sandbox_outcome": words}})


def latest_event(api: stripe.StripeClient) -> str:
    """Return the id of the newest event."""
    return api.v1.events.list({"limit": 1}).data[0].id


def types_since(api: stripe.StripeClient, event: str) -> list[str]:
    """Return the types of the events after an event, oldest first."""
    newer = api.v1.events.list({"ending_before": event, "limit": 100}).data
    return [event.type for event in reversed(newer)]


def event_types(api: stripe.StripeClient) -> list[str]:
    """Return the types of all events, oldest first."""
    return [event.type for event in reversed(api.v1.events.list({"limit": 100}).data)]


def error_of(error: stripe.StripeError) -> dict[str, Any]:
    """Return the error object in the body of the response."""
    body: Any = error.json_body
    return dict(body["error"])
