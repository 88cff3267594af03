"""All resources the sandbox knows."""

from sandbox.stripe.objects import (
    balances,
    charges,
    customers,
    events,
    invoice_items,
    invoice_payments,
    invoices,
    payment_intents,
    payment_methods,
    prices,
    products,
    subscription_items,
    subscriptions,
    webhook_endpoints,
)
from sandbox.stripe.resource import Registry

REGISTRY = Registry(
    (
        balances.resource,
        charges.resource,
        customers.resource,
        events.resource,
        invoice_items.resource,
        invoice_payments.resource,
        invoices.resource,
        payment_intents.resource,
        payment_methods.resource,
        prices.resource,
        products.resource,
        subscription_items.resource,
        subscriptions.resource,
        webhook_endpoints.resource,
    )
)
