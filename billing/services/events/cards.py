"""Handles events on payment methods and payments: what to try, and what to await."""

from billing.clients.stripe.client import Card, Stripe
from billing.models import InvoiceCollection, StripeEvent
from billing.services.collection.attempts import start_attempt_with_card
from billing.services.collection.cards import was_replaced
from billing.services.events.effects import Effect, no_effect
from billing.services.invoices.records import enqueue_collection
from tenants.models import Tenant


def card_attached(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Start an attempt with the new card for each open invoice.

    Not with a bank account, which is debited only if it becomes the default.
    """
    method = event.data["object"]
    details = method.get("card")
    number = details.get("fingerprint") if isinstance(details, dict) else ""
    kind = str(method.get("type") or "card")
    card = Card(str(method["id"]), 0, kind, fingerprint=str(number or ""))
    if card.is_bank_account:
        return no_effect("a bank account is debited if it is the default")
    return lambda: _charge(card, tenant)


def card_detached(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Change nothing: each attempt lists the customer's cards again."""
    return no_effect("the next attempt will see it")


def card_updated(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Start an attempt if a card that was charged before has been replaced in place."""
    card = stripe.payment_methods.get(str(event.data["object"]["id"]))
    if card.customer != tenant.stripe_customer_id:
        return no_effect("it is not attached any more")
    if not was_replaced(card, tenant_id=tenant.pk):
        return no_effect("it has been charged as it is now, or never")
    return lambda: _charge(card, tenant)


def customer_updated(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Start an attempt with the customer's default card if that has changed."""
    previous = event.data.get("previous_attributes") or {}
    if "default_payment_method" not in (previous.get("invoice_settings") or {}):
        return no_effect("the default card is the same")
    customer = stripe.customers.get(str(event.data["object"]["id"]))
    if not customer.default_card:
        return no_effect("there is no default card any more")
    card = stripe.payment_methods.get(customer.default_card)
    return lambda: _charge(card, tenant)


def payment_started(stripe: Stripe, event: StripeEvent, tenant: Tenant) -> Effect:
    """Read the tenant's unpaid invoices: one of them is being paid at Stripe.

    A PaymentIntent does not say which: https://docs.stripe.com/api/payment_intents/object
    """
    return lambda: _read_unpaid(tenant)


def _charge(card: Card, tenant: Tenant) -> str:
    count = start_attempt_with_card(tenant_id=tenant.pk, card=card)
    return f"a new card for {count} open invoices"


def _read_unpaid(tenant: Tenant) -> str:
    unpaid = InvoiceCollection.objects.unpaid().filter(tenant=tenant).order_by("pk")
    ids = list(unpaid.values_list("pk", flat=True))
    for invoice_id in ids:
        enqueue_collection(invoice_id=invoice_id)
    return f"a payment may be in progress: {len(ids)} collections enqueued"
