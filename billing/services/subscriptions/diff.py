"""The only comparison of a tenant's relays with its subscriptions at Stripe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count

from billing.clients.stripe.client import Subscription
from billing.exceptions import PriceMissing
from relays.models import Relay
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

    Raises PriceMissing rather than leave a paid relay unbilled.
    """
    rows = (
        Relay.objects.billable()
        .filter(tenant_id=tenant_id)
        .values_list("plan__stripe_price_id")
        .annotate(quantity=Count("pk"))
        .order_by("plan__stripe_price_id")
    )
    items = dict(rows)
    if None in items:
        raise PriceMissing("A paid plan has no price at Stripe: run stripe_setup.")
    return items


@dataclass(frozen=True)
class SubscriptionDiff:
    """Changes that a tenant's subscriptions need.

    `items` are for the update of `current`, which is None if a subscription is to be
    created or none is needed; `duplicates` are to be cancelled.
    """

    current: Subscription | None
    items: tuple[dict[str, Any], ...]
    duplicates: tuple[Subscription, ...]

    @property
    def is_in_sync(self) -> bool:
        return not self.items and not self.duplicates and not self.needs_send_invoice

    @property
    def needs_send_invoice(self) -> bool:
        """True if Stripe would charge by itself: only Caravel starts charges."""
        return (
            self.current is not None
            and self.current.collection_method != "send_invoice"
        )


def diff_subscriptions(
    desired: Mapping[str, int],
    subscriptions: Sequence[Subscription],
    *,
    tenant_pubkey: str,
    current_id: str | None,
) -> SubscriptionDiff:
    """Compare a tenant's desired items with its customer's subscriptions.

    Subscriptions of other services on the same customer are ignored.
    """
    candidates = _belonging_to(tenant_pubkey, subscriptions, current_id)
    current = _current_or_oldest_live(candidates, current_id) if desired else None
    duplicates = tuple(
        sub for sub in candidates if sub.status in LIVE | LIMBO and sub is not current
    )
    return SubscriptionDiff(current, _item_changes(desired, current), duplicates)


def cap_to_current(
    desired: Mapping[str, int],
    subscriptions: Sequence[Subscription],
    *,
    tenant_pubkey: str,
    current_id: str | None,
) -> dict[str, int]:
    """Return the desired items that a tenant whose purchases are blocked gets.

    No quantity exceeds that of the current subscription; without one there are none.
    """
    candidates = _belonging_to(tenant_pubkey, subscriptions, current_id)
    current = _current_or_oldest_live(candidates, current_id)
    if current is None:
        return {}
    present = {item.price: item.quantity or 0 for item in current.items}
    capped = {price: min(n, present.get(price, 0)) for price, n in desired.items()}
    return {price: quantity for price, quantity in capped.items() if quantity}


def is_in_sync(tenant: Tenant, subscription: Subscription) -> bool:
    """Return whether a live subscription matches the tenant's relays."""
    try:
        desired = desired_items(tenant.pk)
    except PriceMissing:
        return False
    pubkey, current_id = tenant.pubkey, tenant.stripe_subscription_id
    if tenant.is_purchase_blocked:
        desired = cap_to_current(
            desired, [subscription], tenant_pubkey=pubkey, current_id=current_id
        )
    diff = diff_subscriptions(
        desired, [subscription], tenant_pubkey=pubkey, current_id=current_id
    )
    return diff.is_in_sync


def find_current(
    subscriptions: Sequence[Subscription],
    *,
    tenant_pubkey: str,
    current_id: str | None,
) -> Subscription | None:
    """Return the tenant's current subscription if it is live or paused.

    Else the oldest live one; if there is none, the oldest paused one.
    """
    candidates = _belonging_to(tenant_pubkey, subscriptions, current_id)
    paused = [sub for sub in candidates if sub.status == PAUSED]
    paused.sort(key=lambda sub: (sub.id != current_id, sub.created, sub.id))
    if paused and paused[0].id == current_id:
        return paused[0]
    live = _current_or_oldest_live(candidates, current_id)
    return live or (paused[0] if paused else None)


def _belonging_to(
    tenant_pubkey: str, subscriptions: Sequence[Subscription], current_id: str | None
) -> list[Subscription]:
    """Return the subscriptions that name the tenant, and the current one."""
    return [
        sub
        for sub in subscriptions
        if sub.id == current_id or sub.metadata.get("tenant_pubkey") == tenant_pubkey
    ]


def _current_or_oldest_live(
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
