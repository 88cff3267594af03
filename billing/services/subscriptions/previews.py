"""The cost of a change of relays, which Stripe previews without making the change."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing.clients.stripe.client import Line, Stripe, Subscription
from billing.clients.stripe.errors import StripeNotFound
from billing.clients.stripe.types import to_datetime
from billing.exceptions import QuoteChanged, QuoteNotReady
from billing.services.subscriptions.diff import (
    LIVE,
    SubscriptionDiff,
    allowed_items,
    diff_subscriptions,
)
from billing.services.subscriptions.terms import carried_terms
from relays.models import Plan
from tenants.models import Tenant


@dataclass(frozen=True)
class CostLine:
    """A line of an invoice; the amount has its discounts and taxes."""

    description: str
    amount_cents: int


@dataclass(frozen=True)
class Cost:
    """An amount, and when it is invoiced; `at` is None if it never is."""

    amount_cents: int = 0
    at: datetime | None = None
    lines: tuple[CostLine, ...] = ()


@dataclass(frozen=True)
class Preview:
    """The cost of a change until the next renewal, and of each period from then on.

    `items` are those of the subscription after the change, and `at` the time from which
    it is prorated.
    """

    currency: str
    items: Mapping[str, int]
    at: int
    now: Cost = Cost()
    renewal: Cost = Cost()

    @property
    def amounts(self) -> tuple[str, int, int]:
        return self.currency, self.now.amount_cents, self.renewal.amount_cents


def preview_items(
    tenant: Tenant, desired: Mapping[str, int], *, plan: Plan, at: int
) -> Preview:
    """Return the cost of billing these items from `at` on; `plan` is the new plan.

    `at` is moved to the start of the current period if that is up to a minute later.
    Raises QuoteNotReady, QuoteChanged if the period of `at` is over, or a StripeError.
    """
    if not tenant.stripe_customer_id:
        return _preview_without_customer(desired, plan, at)
    stripe = Stripe()
    current = _find_current(stripe, tenant)
    if current:
        allowed = allowed_items(tenant, current, desired)
        if not allowed:
            return _preview_end(stripe, current, plan, at)
        change = diff_subscriptions(
            allowed, [current], tenant_pubkey=tenant.pubkey, current_id=current.id
        )
        at = _in_period(current, at)
        currency, now, renewal = _preview_update(stripe, current, change, at)
        return Preview(currency, allowed, at, now, renewal)
    if desired:
        return _preview_start(stripe, tenant, desired, at)
    return Preview(plan.currency, {}, at)


def _find_current(stripe: Stripe, tenant: Tenant) -> Subscription | None:
    if not tenant.stripe_subscription_id:
        return None
    current = stripe.subscriptions.get(tenant.stripe_subscription_id)
    if current.status not in LIVE:
        raise QuoteNotReady("The subscription has just changed, or is paused.")
    return current


def _preview_without_customer(
    desired: Mapping[str, int], plan: Plan, at: int
) -> Preview:
    """Return the plain prices: Stripe previews nothing without a customer."""
    plans = Plan.objects.filter(stripe_price_id__in=desired)
    lines = tuple(
        CostLine(f"{quantity} × {each.name}", quantity * each.amount_cents)
        for each in plans
        if (quantity := desired[str(each.stripe_price_id)])
    )
    if not lines:
        return Preview(plan.currency, desired, at)
    total = sum(line.amount_cents for line in lines)
    # The first period is invoiced at once. When the next one starts is up to Stripe.
    now = Cost(total, to_datetime(at), lines)
    return Preview(plan.currency, desired, at, now, Cost(total, None, lines))


def _preview_start(
    stripe: Stripe, tenant: Tenant, desired: Mapping[str, int], at: int
) -> Preview:
    terms = carried_terms(stripe, tenant)
    details: dict[str, Any] = {
        "items": [
            {"price": price, "quantity": quantity}
            for price, quantity in desired.items()
        ],
        "billing_mode": {"type": "flexible"},
    }
    if "default_tax_rates" in terms:
        details["default_tax_rates"] = terms["default_tax_rates"]
    params = {"customer": tenant.stripe_customer_id, "subscription_details": details}
    if "discounts" in terms:
        params["discounts"] = terms["discounts"]
    invoice = stripe.invoices.create_preview(params)
    first = [line for line in invoice.lines if not line.item]
    renewed_at = max(line.period_end for line in first)
    now, renewal = _cost(first, at), _cost(first, renewed_at)
    return Preview(invoice.currency, desired, at, now, renewal)


def _preview_update(
    stripe: Stripe, current: Subscription, change: SubscriptionDiff, at: int
) -> tuple[str, Cost, Cost]:
    """Return the currency, and the cost now and at each renewal."""
    pending = stripe.invoice_items.list_pending(
        customer=current.customer,
        subscription=current.id,
        default_tax_rates=current.default_tax_rates,
    )
    invoice = stripe.invoices.create_preview(_update_params(current, change, at))
    known = {line.item for line in pending}
    shown = [line for line in invoice.lines if line.item not in known]
    # As in https://docs.stripe.com/billing/subscriptions/prorations: those of earlier
    # changes started at another time, unless it was in the same second.
    prorations = [each for each in shown if each.proration and each.period_start == at]
    regular = [line for line in shown if not line.proration and not line.item]
    hidden = 0
    if invoice.has_more_lines:
        # The newest lines come first; the others of a preview cannot be listed:
        # https://github.com/stripe/stripe-node/issues/2518
        hidden = invoice.total - sum(line.cost for line in (*pending, *shown))
    renewed_at = min(item.period_end for item in current.items)
    now = _cost(prorations, renewed_at if prorations else None)
    return invoice.currency, now, _cost(regular, renewed_at, hidden_cents=hidden)


def _update_params(
    current: Subscription, change: SubscriptionDiff, at: int
) -> dict[str, Any]:
    if not change.items:
        return {"subscription": current.id}
    details = {
        "items": list(change.items),
        "proration_behavior": "create_prorations",
        "proration_date": at,
    }
    return {"subscription": current.id, "subscription_details": details}


def _preview_end(stripe: Stripe, current: Subscription, plan: Plan, at: int) -> Preview:
    """Return the final invoice, with everything that is pending, as the cost now."""
    details = {"cancel_now": True, "proration_behavior": "create_prorations"}
    params = {"subscription": current.id, "subscription_details": details}
    try:
        invoice = stripe.invoices.create_preview(params)
    except StripeNotFound:
        return Preview(plan.currency, {}, at)
    rest = invoice.total - sum(line.cost for line in invoice.lines)
    now = _cost(invoice.lines, at, hidden_cents=rest)
    return Preview(invoice.currency, {}, at, now)


def _in_period(current: Subscription, at: int) -> int:
    start = max(item.period_start for item in current.items)
    # Stripe's clock may be ahead of ours when a subscription has just begun.
    if start - at > 60:
        raise QuoteChanged("A new billing period has started.")
    return max(start, at)


def _cost(lines: Iterable[Line], at: int | None, *, hidden_cents: int = 0) -> Cost:
    shown = [CostLine(line.description, line.cost) for line in lines]
    if hidden_cents:
        shown.append(CostLine("Other lines", hidden_cents))
    total = sum(line.amount_cents for line in shown)
    return Cost(total, to_datetime(at) if at else None, tuple(shown))
