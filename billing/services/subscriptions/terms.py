"""Discounts and taxes that staff set on a subscription, carried over to the next one.

Stored while a subscription is live: what an ended one still shows is not documented.
Those of the customer go on by themselves; those of single items are not carried.
"""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Stripe, Subscription
from billing.clients.stripe.errors import StripeRefused
from billing.clients.stripe.types import Coupon, to_datetime
from billing.models import SubscriptionSync
from caravel.core.alerts import alert_support
from tenants.models import Tenant

#: Metadata keys of a copied coupon: the first one, and the end of its discount.
_COPY_OF, _UNTIL = "caravel_copy_of", "caravel_until"
Terms = dict[str, Any]


def refresh_terms(stripe: Stripe, tenant_id: str, live: Subscription) -> None:
    """Store the discounts and taxes of a live subscription, unless they are known."""
    stored = stored_terms(tenant_id)
    terms = _read_terms(stripe, stored, live)
    if terms != stored:
        store_terms(tenant_id, terms)


def read_terms(stripe: Stripe, tenant_id: str, live: Subscription) -> Terms:
    """Return the discounts and taxes of a live subscription.

    Reads from Stripe only if the discounts are others than those stored.
    """
    return _read_terms(stripe, stored_terms(tenant_id), live)


def _read_terms(stripe: Stripe, stored: Terms, live: Subscription) -> Terms:
    discounts: list[Terms] = stored.get("discounts", [])
    if [each["id"] for each in discounts] != list(live.discounts):
        found = stripe.subscriptions.list_discounts(live.id)
        discounts = [
            {"id": each.id, "coupon": each.coupon, "end": each.end} for each in found
        ]
    return {
        "discounts": discounts,
        "tax_rates": [rate.id for rate in live.default_tax_rates],
        "item_terms": list(live.item_terms),
    }


def store_terms(tenant_id: str, terms: Terms) -> None:
    """Store the discounts and taxes of a tenant's live subscription."""
    with transaction.atomic():
        rows = SubscriptionSync.objects.filter(pk=tenant_id)
        rows.exclude(terms=terms).update(terms=terms)


def stored_terms(tenant_id: str) -> Terms:
    """Return the discounts and taxes of the tenant's last live subscription."""
    rows = SubscriptionSync.objects.filter(pk=tenant_id)
    return rows.values_list("terms", flat=True).first() or {}


def carried_terms(stripe: Stripe, tenant: Tenant) -> Terms:
    """Return the parameters that give a new subscription the terms of the last one."""
    stored = stored_terms(tenant.pk)
    if stored.get("item_terms"):
        alert_lost_terms(tenant, f"Of single items: {', '.join(stored['item_terms'])}")
    discounts = stored.get("discounts", [])
    coupons = [_coupon_to_redeem(stripe, tenant, each) for each in discounts]
    params = {
        "discounts": [{"coupon": coupon} for coupon in coupons if coupon],
        "default_tax_rates": stored.get("tax_rates", []),
    }
    return {name: value for name, value in params.items() if value}


def alert_lost_terms(tenant: Tenant, reason: str) -> None:
    """Alert support that a discount or tax is missing on a new subscription."""
    alert_support(
        "discount_not_carried",
        f"The tenant's new subscription lacks terms of the last one. {reason}",
        tenant=tenant.pk,
    )


def _coupon_to_redeem(stripe: Stripe, tenant: Tenant, discount: Terms) -> str | None:
    """Return the coupon for what is left of a discount; None if it is over or lost."""
    try:
        coupon = stripe.coupons.get(discount["coupon"])
        return _rest_of(stripe, coupon, discount["end"])
    except StripeRefused as exc:
        alert_lost_terms(tenant, f"Coupon {discount['coupon']}: {exc}")
        return None


def _rest_of(stripe: Stripe, coupon: Coupon, end: int | None) -> str | None:
    """Return the coupon itself, or a copy for the remaining months.

    Also a copy if it can no longer be redeemed: this tenant has redeemed it in time.
    """
    if coupon.duration != "repeating":
        return coupon.id if coupon.valid else _copy(stripe, coupon)
    # Not the end of a copy, which has whole months: they would add up.
    until = int(coupon.metadata.get(_UNTIL, end or 0))
    months = _months_until(to_datetime(until))
    if months <= 0:
        return None
    return _copy(stripe, coupon, months=months, until=until)


def _copy(stripe: Stripe, coupon: Coupon, *, months: int = 0, until: int = 0) -> str:
    """Return a coupon with the same terms, for these months or forever."""
    first = coupon.metadata.get(_COPY_OF, coupon.id)
    params = {
        # The same for the same rest, so that a repetition finds it.
        "id": f"caravel-{first}-{months}-{until}",
        "duration": coupon.duration,
        "metadata": {_COPY_OF: first, _UNTIL: str(until)},
        **coupon.terms,
    }
    if months:
        params["duration_in_months"] = months
    return stripe.coupons.ensure(params)


def _months_until(end: datetime) -> int:
    """Return the months until a time, rounded up; 0 or less if it is over."""
    now = timezone.now()
    if end <= now:
        return 0
    months = (end.year - now.year) * 12 + end.month - now.month
    is_later = (end.day, end.time()) > (now.day, now.time())
    return max(1, months + is_later)
