"""All resources of the sandbox."""

from sandbox.stripe.api.routing import Registry
from sandbox.stripe.objects.balances import balance_transactions
from sandbox.stripe.objects.catalog import prices, products
from sandbox.stripe.objects.credit_notes import credit_notes
from sandbox.stripe.objects.customers import customers
from sandbox.stripe.objects.events import events, webhook_endpoints
from sandbox.stripe.objects.invoices import invoices, payment_records
from sandbox.stripe.objects.invoices import items as invoice_items
from sandbox.stripe.objects.payments import charges, payment_intents, payment_methods
from sandbox.stripe.objects.portal import configurations, sessions
from sandbox.stripe.objects.subscriptions import items as subscription_items
from sandbox.stripe.objects.subscriptions import preview, subscriptions

REGISTRY = Registry(
    (
        balance_transactions.resource,
        charges.resource,
        credit_notes.resource,
        customers.resource,
        events.resource,
        invoice_items.resource,
        payment_records.resource,
        # Before invoices: their routes would read `create_preview` as an id.
        preview.resource,
        invoices.resource,
        payment_intents.resource,
        payment_methods.resource,
        configurations.resource,
        sessions.resource,
        prices.resource,
        products.resource,
        subscription_items.resource,
        subscriptions.resource,
        webhook_endpoints.resource,
    )
)
