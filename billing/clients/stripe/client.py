"""The Stripe API at the pinned version: https://docs.stripe.com/api."""

from collections.abc import Callable

from billing.clients.stripe.catalog import Coupons, Prices, WebhookEndpoints
from billing.clients.stripe.credits import CreditNotes, CustomerBalanceTransactions
from billing.clients.stripe.customers import Customers, PaymentMethods
from billing.clients.stripe.events import Events
from billing.clients.stripe.invoices import InvoiceItems, Invoices, PaymentIntents
from billing.clients.stripe.portal import (
    PortalConfiguration,
    PortalConfigurations,
    PortalSessions,
)
from billing.clients.stripe.reversals import (
    Charge,
    Charges,
    Dispute,
    Disputes,
    FraudWarning,
    FraudWarnings,
    Refund,
    Refunds,
)
from billing.clients.stripe.subscriptions import Subscriptions
from billing.clients.stripe.transport import API_VERSION, StripeTransport, is_live_key
from billing.clients.stripe.types import (
    BalanceTransaction,
    Card,
    CreditNote,
    Customer,
    Invoice,
    Item,
    Line,
    Price,
    Subscription,
)

__all__ = [
    "API_VERSION",
    "BalanceTransaction",
    "Card",
    "Charge",
    "CreditNote",
    "Customer",
    "Dispute",
    "FraudWarning",
    "Invoice",
    "Item",
    "Line",
    "PortalConfiguration",
    "Price",
    "Refund",
    "Stripe",
    "Subscription",
    "is_live_key",
]


class Stripe:
    """The calls that Caravel makes, by object. Each raises a subclass of `StripeError`.

    `before_try` and `sleep` are those of `StripeTransport`.
    """

    def __init__(
        self,
        *,
        before_try: Callable[[], None] | None = None,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        transport = StripeTransport(before_try=before_try, sleep=sleep)
        self.customers = Customers(transport)
        self.customer_balance_transactions = CustomerBalanceTransactions(transport)
        self.payment_methods = PaymentMethods(transport)
        self.subscriptions = Subscriptions(transport)
        self.invoices = Invoices(transport)
        self.invoice_items = InvoiceItems(transport)
        self.payment_intents = PaymentIntents(transport)
        self.credit_notes = CreditNotes(transport)
        self.charges = Charges(transport)
        self.refunds = Refunds(transport)
        self.disputes = Disputes(transport)
        self.fraud_warnings = FraudWarnings(transport)
        self.events = Events(transport)
        self.prices = Prices(transport)
        self.coupons = Coupons(transport)
        self.webhook_endpoints = WebhookEndpoints(transport)
        self.portal_configurations = PortalConfigurations(transport)
        self.portal_sessions = PortalSessions(transport)
