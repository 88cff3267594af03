"""Products and prices of the plans at Stripe."""

import uuid
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from billing.clients.stripe.client import Stripe
from relays.models import Plan


@dataclass(frozen=True)
class PlanPrice:
    plan_id: str
    price_id: str
    created: bool


def ensure_prices(stripe: Stripe) -> list[PlanPrice]:
    """Find or create a monthly price for each paid plan, by its lookup key.

    Prices at Stripe are immutable, so a plan whose amount changed gets another one; the
    next sync moves its relays over. Returns one entry per paid plan.
    """
    return [_ensure_price(stripe, plan) for plan in Plan.objects.paid()]


def _ensure_price(stripe: Stripe, plan: Plan) -> PlanPrice:
    lookup_key = f"caravel_{plan.id}_{plan.currency}_{plan.amount_cents}_month"
    price_id, created = stripe.prices.find(lookup_key), False
    if price_id is None:
        # A new idempotency key each time: Stripe would replay the creation of a price
        # that has been archived since.
        key = f"price:{lookup_key}:{uuid.uuid4()}"
        price_id = stripe.prices.create(_params(plan, lookup_key), key)
        created = True
    with transaction.atomic():
        Plan.objects.filter(pk=plan.pk).update(stripe_price_id=price_id)
    return PlanPrice(plan.id, price_id, created)


def _params(plan: Plan, lookup_key: str) -> dict[str, Any]:
    return {
        "lookup_key": lookup_key,
        # An archived price keeps its lookup key:
        # https://docs.stripe.com/products-prices/manage-prices#lookup-keys
        "transfer_lookup_key": True,
        "currency": plan.currency,
        "unit_amount": plan.amount_cents,
        "recurring": {"interval": "month"},
        "product_data": {"name": f"Nostr relay, {plan.name}"},
        "metadata": {"caravel_plan": plan.id},
    }
