"""All resources of the sandbox."""

from sandbox.stripe.objects import (
    balances,
    charges,
    credit_notes,
    customers,
    events,
    invoice_items,
    invoice_payments,
    invoice_preview,
    invoices,
    payment_intents,
    payment_methods,
    portal_configurations,
    portal_sessions,
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
        credit_notes.resource,
        customers.resource,
        events.resource,
        invoice_items.resource,
        invoice_payments.resource,
        # Before invoices: their routes would read `create_preview` as an id.
        invoice_preview.resource,
        invoices.resource,
        payment_intents.resource,
        payment_methods.resource,
        portal_configurations.resource,
        portal_sessions.resource,
        prices.resource,
        products.resource,
        subscription_items.resource,
        subscriptions.resource,
        webhook_endpoints.resource,
    )
)
