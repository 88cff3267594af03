"""What must change at Stripe. The only comparison of relays and subscriptions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count

from billing.clients.stripe.client import Subscription
from billing.exceptions import PriceMissing
from relays.models import Relay
from tenants.models import Tenant

#: A subscription that goes on serving and billing.
LIVE = frozenset({"active", "trialing", "past_due"})
#: Neither serves nor is over: it counts as none, and is cancelled.
LIMBO = frozenset({"unpaid", "paused", "incomplete"})


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
    """What one tenant's subscriptions lack: `keep` gets `items`, `surplus` goes."""

    keep: Subscription | None
    items: tuple[dict[str, Any], ...]
    surplus: tuple[Subscription, ...]

    @property
    def is_in_sync(self) -> bool:
        return not self.items and not self.surplus and not self.switch

    @property
    def switch(self) -> bool:
        """Whether Stripe would charge by itself what only we may."""
        return self.keep is not None and self.keep.collection_method != "send_invoice"


def diff_subscriptions(
    desired: Mapping[str, int],
    subscriptions: Sequence[Subscription],
    *,
    tenant_pubkey: str,
    current_id: str | None,
) -> SubscriptionDiff:
    """Compare a tenant's desired items with its customer's subscriptions.

    Somebody else's on the same customer are left alone.
    """
    ours = _ours(subscriptions, tenant_pubkey, current_id)
    keep = _first_live(ours, current_id) if desired else None
    surplus = [sub for sub in ours if sub.status in LIVE | LIMBO and sub is not keep]
    return SubscriptionDiff(keep, _item_changes(desired, keep), tuple(surplus))


def cap_to_current(
    desired: Mapping[str, int],
    subscriptions: Sequence[Subscription],
    *,
    tenant_pubkey: str,
    current_id: str | None,
) -> dict[str, int]:
    """Return what a tenant in debt gets of its desired items.

    That is no more of a price than its subscription has, and nothing without one.
    """
    ours = _ours(subscriptions, tenant_pubkey, current_id)
    keep = _first_live(ours, current_id)
    present = {item.price: item.quantity or 0 for item in keep.items} if keep else {}
    least = {price: min(n, present.get(price, 0)) for price, n in desired.items()}
    return {price: quantity for price, quantity in least.items() if quantity}


def is_in_sync(tenant: Tenant, subscription: Subscription) -> bool:
    """Return whether a live subscription is just what the tenant's relays need."""
    try:
        desired = desired_items(tenant.pk)
    except PriceMissing:
        return False
    whose: Any = {
        "tenant_pubkey": tenant.pubkey,
        "current_id": tenant.stripe_subscription_id,
    }
    if tenant.must_pay_first:
        desired = cap_to_current(desired, [subscription], **whose)
    return diff_subscriptions(desired, [subscription], **whose).is_in_sync


def _ours(
    subscriptions: Sequence[Subscription], tenant_pubkey: str, current_id: str | None
) -> list[Subscription]:
    """Return those that name the tenant, and the current one."""
    return [
        sub
        for sub in subscriptions
        if sub.id == current_id or sub.metadata.get("tenant_pubkey") == tenant_pubkey
    ]


def _first_live(
    ours: Sequence[Subscription], current_id: str | None
) -> Subscription | None:
    """Return the current subscription while it lives, else the oldest live one."""
    live = [sub for sub in ours if sub.status in LIVE]
    live.sort(key=lambda sub: (sub.id != current_id, sub.created, sub.id))
    return live[0] if live else None


def _item_changes(
    desired: Mapping[str, int], keep: Subscription | None
) -> tuple[dict[str, Any], ...]:
    """Return the items of one update; what is surplus is deleted last.

    Of two items with one price, which Stripe should never have let be, the first stays.
    """
    if keep is None:
        return ()
    present = {item.price: item for item in reversed(keep.items)}
    kept = {present[price].id for price in desired if price in present}
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
        {"id": item.id, "deleted": True} for item in keep.items if item.id not in kept
    ]
    return (*changed, *added, *deleted)
