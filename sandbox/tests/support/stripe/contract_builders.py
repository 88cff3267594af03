"""Builders of objects for the contract tests, on any account."""

from typing import Any

import stripe

from sandbox.tests.support.stripe.contract_account import Account

HOUR = 3_600
DAY = 86_400


def monthly_price(account: Account, unit_amount: int) -> stripe.Price:
    """Return a new monthly price in US cents."""
    return account.api.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": unit_amount,
            "recurring": {"interval": "month"},
            "product_data": {"name": "Relay"},
        }
    )


def subscription(
    account: Account,
    *prices: stripe.Price,
    to: stripe.Customer | None = None,
    quantity: int = 1,
    **params: Any,
) -> stripe.Subscription:
    """Return a subscription as Caravel creates it: `send_invoice`, due in a week."""
    body: Any = {
        "customer": (to or account.customer()).id,
        "items": [{"price": price.id, "quantity": quantity} for price in prices],
        "collection_method": "send_invoice",
        "days_until_due": 7,
        "billing_mode": {"type": "flexible"},
        "proration_behavior": "create_prorations",
        "metadata": {"tenant_pubkey": "ab" * 32},
        **params,
    }
    return account.api.v1.subscriptions.create(body)


def first_invoice(
    account: Account, subscription: stripe.Subscription
) -> stripe.Invoice:
    """Finalize the latest invoice without automatic collection and return it."""
    return account.api.v1.invoices.finalize_invoice(
        str(subscription.latest_invoice), {"auto_advance": False}
    )


def pending(account: Account, customer: str) -> list[stripe.InvoiceItem]:
    """Return the customer's pending invoice items."""
    params: Any = {"customer": customer, "pending": True, "limit": 100}
    return account.api.v1.invoice_items.list(params).data


def is_replayed(error: stripe.StripeError) -> bool:
    """Return whether the response is a replay for an idempotency key."""
    return (error.headers or {}).get("Idempotent-Replayed") == "true"


def events(account: Account, *types: str, since: int) -> list[stripe.Event]:
    """Return the events of these types created since a time, newest first."""
    params: Any = {"types": list(types), "created": {"gte": since}, "limit": 100}
    return account.api.v1.events.list(params).data


def about(object_id: str, events: list[stripe.Event]) -> list[stripe.Event]:
    """Return the events about this object."""
    return [
        event for event in events if object_id == getattr(event.data.object, "id", None)
    ]
