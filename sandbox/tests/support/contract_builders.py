"""Short ways to what the contract's tests begin with, on whichever Stripe."""

from typing import Any

import stripe

from sandbox.tests.support.contract_account import Account

HOUR = 3_600
DAY = 86_400


def subscription(
    account: Account,
    *prices: stripe.Price,
    to: stripe.Customer | None = None,
    quantity: int = 1,
    **params: Any,
) -> stripe.Subscription:
    """Return a subscription as Caravel makes them: sent, due in a week, flexible."""
    given: Any = {
        "customer": (to or account.customer()).id,
        "items": [{"price": one.id, "quantity": quantity} for one in prices],
        "collection_method": "send_invoice",
        "days_until_due": 7,
        "billing_mode": {"type": "flexible"},
        "proration_behavior": "create_prorations",
        "metadata": {"tenant_pubkey": "ab" * 32},
        **params,
    }
    return account.api.v1.subscriptions.create(given)


def first_invoice(account: Account, subscribed: stripe.Subscription) -> stripe.Invoice:
    """Return the latest invoice, finalized so that Stripe does not collect it."""
    return account.api.v1.invoices.finalize_invoice(
        str(subscribed.latest_invoice), {"auto_advance": False}
    )


def pending(account: Account, customer: str) -> list[stripe.InvoiceItem]:
    """Return the customer's invoice items that are on no invoice."""
    params: Any = {"customer": customer, "pending": True, "limit": 100}
    return account.api.v1.invoice_items.list(params).data


def replayed(error: stripe.StripeError) -> bool:
    """Return whether the answer is one that an idempotency key brought back."""
    return (error.headers or {}).get("Idempotent-Replayed") == "true"


def events(account: Account, *types: str, since: int) -> list[stripe.Event]:
    """Return the events of these types since a moment, newest first."""
    params: Any = {"types": list(types), "created": {"gte": since}, "limit": 100}
    return account.api.v1.events.list(params).data


def of(object_id: str, found: list[stripe.Event]) -> list[stripe.Event]:
    """Return those of the events that are about one object."""
    return [one for one in found if object_id == getattr(one.data.object, "id", None)]
