"""The plans' products and prices at Stripe."""

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
    """Give each paid plan a monthly price at Stripe, found by its lookup key.

    A price never changes at Stripe, so a plan whose amount was changed gets another;
    the next sync moves its relays over. Returns one entry per paid plan.
    """
    return [_ensure_price(stripe, plan) for plan in Plan.objects.paid()]


def _ensure_price(stripe: Stripe, plan: Plan) -> PlanPrice:
    lookup_key = f"caravel_{plan.id}_{plan.currency}_{plan.amount_cents}_month"
    price_id, created = stripe.find_price(lookup_key), False
    if price_id is None:
        # A key of its own each time: the same one would bring an archived price back.
        key = f"price:{lookup_key}:{uuid.uuid4()}"
        price_id = stripe.create_price(_params(plan, lookup_key), key)
        created = True
    with transaction.atomic():
        Plan.objects.filter(pk=plan.pk).update(stripe_price_id=price_id)
    return PlanPrice(plan.id, price_id, created)


def _params(plan: Plan, lookup_key: str) -> dict[str, Any]:
    return {
        "lookup_key": lookup_key,
        # From an archived price, which keeps its key.
        "transfer_lookup_key": True,
        "currency": plan.currency,
        "unit_amount": plan.amount_cents,
        "recurring": {"interval": "month"},
        "product_data": {"name": f"Nostr relay, {plan.name}"},
        "metadata": {"caravel_plan": plan.id},
    }
