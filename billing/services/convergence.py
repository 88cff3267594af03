"""What must change at Stripe. The only comparison of relays and subscriptions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count

from billing.clients.stripe import Subscription
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
class Difference:
    """What one tenant's subscriptions lack: `keep` gets `items`, `surplus` goes."""

    keep: Subscription | None
    items: tuple[dict[str, Any], ...]
    surplus: tuple[Subscription, ...]

    @property
    def is_in_step(self) -> bool:
        return not self.items and not self.surplus and not self.switch

    @property
    def switch(self) -> bool:
        """Whether Stripe would charge by itself what only we may."""
        return self.keep is not None and self.keep.collection_method != "send_invoice"


def compare(
    desired: Mapping[str, int],
    subscriptions: Sequence[Subscription],
    *,
    tenant_pubkey: str,
    current_id: str | None,
) -> Difference:
    """Compare a tenant's desired items with its customer's subscriptions.

    The current subscription is kept while it lives, else the oldest live one; ours are
    those that name the tenant. Somebody else's on the same customer are left alone.
    """
    ours = [
        sub
        for sub in subscriptions
        if sub.id == current_id or sub.metadata.get("tenant_pubkey") == tenant_pubkey
    ]
    live = [sub for sub in ours if sub.status in LIVE]
    live.sort(key=lambda sub: (sub.id != current_id, sub.created, sub.id))
    keep = live[0] if live and desired else None
    surplus = [sub for sub in ours if sub.status in LIVE | LIMBO and sub is not keep]
    return Difference(keep, _item_changes(desired, keep), tuple(surplus))


def is_in_step(tenant: Tenant, subscription: Subscription) -> bool:
    """Return whether a live subscription is just what the tenant's relays need."""
    try:
        desired = desired_items(tenant.pk)
    except PriceMissing:
        return False
    difference = compare(
        desired,
        [subscription],
        tenant_pubkey=tenant.pubkey,
        current_id=tenant.stripe_subscription_id,
    )
    return difference.is_in_step


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
