"""The only comparison of a tenant's relays with its subscriptions at Stripe."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count

from billing.clients.stripe.client import Subscription
from billing.services.invoices.ownership import TENANT_KEY
from relays.models import Plan, Relay
from tenants.models import Tenant

#: Statuses of a subscription that serves and bills.
LIVE = frozenset({"active", "trialing", "past_due"})
#: Statuses of a subscription that does neither, but has not ended: it is cancelled.
LIMBO = frozenset({"unpaid", "incomplete"})
#: Status of a subscription that does neither because a person wants it so: it is left
#: alone. https://docs.stripe.com/billing/subscriptions/pause
PAUSED = "paused"


def desired_items(tenant_id: str) -> dict[str, int]:
    """Return the quantity per price of a tenant's billable relays.

    Relays on a plan without a price are left out; `unbilled_plans` reports them.
    """
    rows = (
        Relay.objects.billable()
        .filter(tenant_id=tenant_id, plan__stripe_price_id__isnull=False)
        .values_list("plan__stripe_price_id")
        .annotate(quantity=Count("pk"))
        .order_by("plan__stripe_price_id")
    )
    return dict(rows)


def unbilled_plans(tenant_id: str, items: Container[str]) -> dict[str, str]:
    """Return why plans of billable relays are not among these items, by plan id."""
    billable = Relay.objects.billable().filter(tenant_id=tenant_id)
    return {
        plan.pk: plan.price_problem or "it has no price: run stripe_setup"
        for plan in Plan.objects.filter(pk__in=billable.values("plan")).order_by("pk")
        if not plan.is_sellable and plan.stripe_price_id not in items
    }


def sellable_items(
    desired: Mapping[str, int],
    subscriptions: Sequence[Subscription],
    current_id: str | None,
) -> dict[str, int]:
    """Return the desired items without those that no subscription can be given now.

    An item that the current subscription has goes on, also with an archived price.
    """
    problems = Plan.objects.filter(stripe_price_id__in=desired).exclude(
        price_problem=""
    )
    unsellable = set(problems.values_list("stripe_price_id", flat=True))
    current = current_or_oldest_live(subscriptions, current_id) if unsellable else None
    present = {item.price for item in current.items} if current else set()
    return {
        price: quantity
        for price, quantity in desired.items()
        if price in present or price not in unsellable
    }


@dataclass(frozen=True)
class SubscriptionDiff:
    """Changes that a tenant's subscriptions need.

    `items` are for the update of `current`, which is None if a subscription is to be
    created or none is needed; `duplicates` are to be cancelled.
    """

    current: Subscription | None
    items: tuple[dict[str, Any], ...]
    duplicates: tuple[Subscription, ...]
    tenant_pubkey: str

    @property
    def is_in_sync(self) -> bool:
        return not self.needs_update and not self.duplicates

    @property
    def needs_update(self) -> bool:
        return bool(self.items) or self.needs_send_invoice or self.needs_metadata

    @property
    def needs_send_invoice(self) -> bool:
        """True if Stripe would charge by itself: only Caravel starts charges."""
        return (
            self.current is not None
            and self.current.collection_method != "send_invoice"
        )

    @property
    def needs_metadata(self) -> bool:
        """True if a person removed or changed the name of the tenant."""
        return (
            self.current is not None
            and self.current.metadata.get(TENANT_KEY) != self.tenant_pubkey
        )


def diff_subscriptions(
    desired: Mapping[str, int],
    subscriptions: Sequence[Subscription],
    *,
    tenant_pubkey: str,
    current_id: str | None,
) -> SubscriptionDiff:
    """Compare a tenant's desired items with its own subscriptions."""
    current = current_or_oldest_live(subscriptions, current_id) if desired else None
    duplicates = tuple(
        sub
        for sub in subscriptions
        if sub.status in LIVE | LIMBO and sub is not current
    )
    changes = _item_changes(desired, current)
    return SubscriptionDiff(current, changes, duplicates, tenant_pubkey)


def cap_to_current(
    desired: Mapping[str, int],
    subscriptions: Sequence[Subscription],
    *,
    current_id: str | None,
    prices: Container[str] | None = None,
) -> dict[str, int]:
    """Return the desired items of a tenant that gets no more than it has.

    No quantity exceeds that of the current subscription; without one there are none.
    If `prices` are given, this concerns only these.
    """
    current = current_or_oldest_live(subscriptions, current_id)
    items = current.items if current else ()
    present = {item.price: item.quantity or 0 for item in items}
    capped = {
        price: min(quantity, present.get(price, 0))
        if prices is None or price in prices
        else quantity
        for price, quantity in desired.items()
    }
    return {price: quantity for price, quantity in capped.items() if quantity}


def allowed_items(
    tenant: Tenant, subscription: Subscription, desired: Mapping[str, int]
) -> dict[str, int]:
    """Return those of the desired items that a live subscription can be given now."""
    own, current_id = [subscription], tenant.stripe_subscription_id
    allowed = sellable_items(desired, own, current_id)
    if tenant.is_purchase_blocked:
        allowed = cap_to_current(allowed, own, current_id=current_id)
    return allowed


def is_in_sync(tenant: Tenant, subscription: Subscription) -> bool:
    """Return whether a live subscription matches the tenant's relays."""
    diff = diff_subscriptions(
        allowed_items(tenant, subscription, desired_items(tenant.pk)),
        [subscription],
        tenant_pubkey=tenant.pubkey,
        current_id=tenant.stripe_subscription_id,
    )
    return diff.is_in_sync


def find_current(
    subscriptions: Sequence[Subscription], current_id: str | None
) -> Subscription | None:
    """Return the tenant's current subscription if it is live or paused.

    Else the oldest live one; if there is none, the oldest paused one.
    """
    paused = [sub for sub in subscriptions if sub.status == PAUSED]
    paused.sort(key=lambda sub: (sub.id != current_id, sub.created, sub.id))
    if paused and paused[0].id == current_id:
        return paused[0]
    live = current_or_oldest_live(subscriptions, current_id)
    return live or (paused[0] if paused else None)


def current_or_oldest_live(
    candidates: Sequence[Subscription], current_id: str | None
) -> Subscription | None:
    """Return the current subscription if it is live, else the oldest live one."""
    live = [sub for sub in candidates if sub.status in LIVE]
    live.sort(key=lambda sub: (sub.id != current_id, sub.created, sub.id))
    return live[0] if live else None


def _item_changes(
    desired: Mapping[str, int], current: Subscription | None
) -> tuple[dict[str, Any], ...]:
    """Return the items of one update: changed, added, then deleted ones.

    Stripe should not allow two items of one price; if it does, the first is kept.
    """
    if current is None:
        return ()
    present = {item.price: item for item in reversed(current.items)}
    kept_ids = {present[price].id for price in desired if price in present}
    changed: list[dict[str, Any]] = [
        {"id": present[price].id, "quantity": quantity}
        for price, quantity in desired.items()
        if price in present and present[price].quantity != quantity
    ]
    added: list[dict[str, Any]] = [
        {"price": price, "quantity": quantity}
        for price, quantity in desired.items()
        if price not in present
    ]
    deleted: list[dict[str, Any]] = [
        {"id": item.id, "deleted": True}
        for item in current.items
        if item.id not in kept_ids
    ]
    return (*changed, *added, *deleted)
