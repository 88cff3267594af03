"""All resources of the sandbox."""

from sandbox.stripe.api.routing import Registry
from sandbox.stripe.objects import account
from sandbox.stripe.objects.balances import balance_transactions
from sandbox.stripe.objects.catalog import coupons, prices, products, tax_rates
from sandbox.stripe.objects.credit_notes import credit_notes
from sandbox.stripe.objects.customers import customers
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.events import events, webhook_endpoints
from sandbox.stripe.objects.invoices import invoices, payment_records
from sandbox.stripe.objects.invoices import items as invoice_items
from sandbox.stripe.objects.payments import (
    charges,
    external_payments,
    payment_intents,
    payment_methods,
)
from sandbox.stripe.objects.portal import configurations, sessions
from sandbox.stripe.objects.reversals import (
    charge_timer,
    dispute_timer,
    disputes,
    fraud_warnings,
    refunds,
)
from sandbox.stripe.objects.subscriptions import (
    invoice_timer,
    preview,
    subscriptions,
)

# Here, since the timers also cancel subscriptions, which are built on invoices, and
# dispute charges, which disputes are built on.
charges.resource.timer = charge_timer.TIMER
disputes.resource.timer = dispute_timer.TIMER
invoices.resource.timer = invoice_timer.TIMER

REGISTRY = Registry(
    (
        account.resource,
        balance_transactions.resource,
        charges.resource,
        coupons.resource,
        credit_notes.resource,
        customers.resource,
        discounts.resource,
        disputes.resource,
        events.resource,
        external_payments.resource,
        fraud_warnings.resource,
        invoice_items.resource,
        payment_records.resource,
        invoices.resource,
        preview.resource,
        payment_intents.resource,
        payment_methods.resource,
        configurations.resource,
        sessions.resource,
        prices.resource,
        products.resource,
        refunds.resource,
        subscriptions.resource,
        tax_rates.resource,
        webhook_endpoints.resource,
    )
)
