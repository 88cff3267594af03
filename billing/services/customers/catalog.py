"""Products and prices of the plans at Stripe, and which of them can be sold."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import transaction

from billing.clients.stripe.client import Price, Stripe
from billing.clients.stripe.errors import StripeError, StripeNotFound
from billing.services.sync.queue import retry_failed
from caravel.core.alerts import alert_support
from relays.models import Plan

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class PlanPrice:
    plan_id: str
    price_id: str
    created: bool


@dataclass(frozen=True)
class PriceCheck:
    """The check of a plan's price; `problem` is "" if the plan can be sold."""

    plan_id: str
    price_id: str | None
    problem: str


def ensure_prices(stripe: Stripe) -> list[PlanPrice]:
    """Find or create a monthly price for each paid plan, by its lookup key.

    Prices at Stripe are immutable, so a plan whose amount changed gets another one; the
    next sync moves its relays over. Returns one entry per paid plan.
    """
    return [_ensure_price(stripe, plan) for plan in Plan.objects.paid()]


def refresh_prices() -> None:
    """Check the prices of all plans at Stripe, and store the result."""
    checks = check_prices(Stripe())
    with transaction.atomic():
        record_checks(checks)


def refresh_prices_regularly() -> None:
    """Refresh the prices; a failure is logged, since the next check is due soon."""
    try:
        refresh_prices()
    except StripeError as exc:
        logger.warning("prices_not_checked", code=exc.code, error=exc.message)


def check_prices(stripe: Stripe) -> list[PriceCheck]:
    """Return for each paid plan whether its price can be sold."""
    return [_check_price(stripe, plan) for plan in Plan.objects.paid()]


def record_checks(checks: Sequence[PriceCheck]) -> int:
    """Store the result of a check, in the caller's transaction.

    Alerts support about each problem, and retries the syncs of tenants on a plan whose
    problem is solved. Returns the number of problems.
    """
    for check in checks:
        # Not if `stripe_setup` has just replaced the price.
        plans = Plan.objects.filter(pk=check.plan_id, stripe_price_id=check.price_id)
        changed = plans.exclude(price_problem=check.problem).update(
            price_problem=check.problem
        )
        if check.problem:
            message = f"The plan {check.plan_id} cannot be billed: {check.problem}."
            alert_support("plan_not_sellable", message, plan=check.plan_id)
        elif changed:
            retry_failed(plan_id=check.plan_id)
    return sum(bool(check.problem) for check in checks)


def _ensure_price(stripe: Stripe, plan: Plan) -> PlanPrice:
    lookup_key = f"caravel_{plan.id}_{plan.currency}_{plan.amount_cents}_month"
    price, created = stripe.prices.find(lookup_key), False
    price_id = price.id if price else ""
    if price is None or _problem(plan, price):
        # A new idempotency key each time: Stripe would replay the creation of a price
        # that has been archived since.
        key = f"price:{lookup_key}:{uuid.uuid4()}"
        price_id = stripe.prices.create(_params(plan, lookup_key), key)
        created = True
    with transaction.atomic():
        Plan.objects.filter(pk=plan.pk).update(
            stripe_price_id=price_id, price_problem=""
        )
    return PlanPrice(plan.id, price_id, created)


def _check_price(stripe: Stripe, plan: Plan) -> PriceCheck:
    if plan.stripe_price_id is None:
        return PriceCheck(plan.pk, None, "it has no price: run stripe_setup")
    try:
        price = stripe.prices.get(plan.stripe_price_id)
    except StripeNotFound:
        problem = "Stripe has no such price: run stripe_setup"
    else:
        problem = _problem(plan, price)
    return PriceCheck(plan.pk, plan.stripe_price_id, problem)


def _problem(plan: Plan, price: Price) -> str:
    if not price.active:
        return "its price or product is archived"
    if price.currency != plan.currency:
        return f"its price is in {price.currency}"
    if (price.unit_amount, price.interval) != (plan.amount_cents, "month"):
        return "its price has another amount or period: run stripe_setup"
    return ""


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
