"""The parts of Stripe's objects that Caravel uses.

Amounts are in the currency's minor unit; times are Unix seconds, None if not set.
"""

from billing.clients.stripe.types.catalog import (
    Coupon,
    Discount,
    Price,
    read_coupon,
    read_discounts,
    read_price,
)
from billing.clients.stripe.types.credits import (
    BalanceTransaction,
    CreditNote,
    read_balance_transaction,
    read_credit_note,
)
from billing.clients.stripe.types.customers import (
    Card,
    Customer,
    read_card,
    read_customer,
)
from billing.clients.stripe.types.fields import (
    optional,
    optional_text,
    read_id,
    read_metadata,
    read_text,
    to_datetime,
)
from billing.clients.stripe.types.invoices import (
    Invoice,
    InvoicePayment,
    PaymentIntent,
    read_invoice,
    read_invoice_payment,
    read_payment_intent,
)
from billing.clients.stripe.types.lines import (
    Line,
    TaxRate,
    read_line,
    read_pending_item,
    read_tax_rates,
)
from billing.clients.stripe.types.raw import RawObject
from billing.clients.stripe.types.subscriptions import (
    UNREADABLE,
    Item,
    Subscription,
    read_listed_subscription,
    read_subscription,
)

__all__ = [
    "UNREADABLE",
    "BalanceTransaction",
    "Card",
    "Coupon",
    "CreditNote",
    "Customer",
    "Discount",
    "Invoice",
    "InvoicePayment",
    "Item",
    "Line",
    "PaymentIntent",
    "Price",
    "RawObject",
    "Subscription",
    "TaxRate",
    "optional",
    "optional_text",
    "read_balance_transaction",
    "read_card",
    "read_coupon",
    "read_credit_note",
    "read_customer",
    "read_discounts",
    "read_id",
    "read_invoice",
    "read_invoice_payment",
    "read_line",
    "read_listed_subscription",
    "read_metadata",
    "read_payment_intent",
    "read_pending_item",
    "read_price",
    "read_subscription",
    "read_tax_rates",
    "read_text",
    "to_datetime",
]
