"""Handles events on prices and products: they concern no single tenant."""

from billing.clients.stripe.client import Stripe
from billing.models import StripeEvent
from billing.services.customers.catalog import check_prices, record_checks
from billing.services.events.effects import Effect, no_effect
from relays.models import Plan


def price_changed(stripe: Stripe, event: StripeEvent) -> Effect:
    """Check all plans again if the price is one of theirs."""
    price_id = str(event.data["object"]["id"])
    if not Plan.objects.filter(stripe_price_id=price_id).exists():
        return no_effect("not a price of a plan")
    return product_changed(stripe, event)


def product_changed(stripe: Stripe, event: StripeEvent) -> Effect:
    """Check all plans again: the price of one may belong to the product."""
    checks = check_prices(stripe)
    return lambda: f"{record_checks(checks)} plans cannot be billed"
