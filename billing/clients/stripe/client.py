"""The Stripe API at the pinned version: https://docs.stripe.com/api."""

from billing.clients.stripe.catalog import CatalogCalls
from billing.clients.stripe.customers import CustomerCalls
from billing.clients.stripe.invoices import InvoiceCalls
from billing.clients.stripe.portal import PortalCalls, PortalConfiguration
from billing.clients.stripe.subscriptions import SubscriptionCalls
from billing.clients.stripe.transport import API_VERSION, is_live_key
from billing.clients.stripe.types import (
    BalanceTransaction,
    Card,
    CreditNote,
    Customer,
    Invoice,
    Item,
    Line,
    Subscription,
)

__all__ = [
    "API_VERSION",
    "BalanceTransaction",
    "Card",
    "CreditNote",
    "Customer",
    "Invoice",
    "Item",
    "Line",
    "PortalConfiguration",
    "Stripe",
    "Subscription",
    "is_live_key",
]


class Stripe(CustomerCalls, SubscriptionCalls, InvoiceCalls, CatalogCalls, PortalCalls):
    """The calls that Caravel makes. Each raises a subclass of `StripeError`."""
