"""Coupons, tax rates and archived prices."""

from typing import Any

from billing.tests.support.simulation.actions import Payer
from billing.tests.support.simulation.staff.objects import (
    StaffAction,
    live_subscription,
    request,
    transact,
)
from billing.tests.support.simulation.system import System
from sandbox.stripe.objects.discounts import discounts

COUPONS: tuple[dict[str, Any], ...] = (
    {"percent_off": 50, "duration": "forever"},
    {"percent_off": 33.33, "duration": "repeating", "duration_in_months": 1},
    {"amount_off": 101, "currency": "usd", "duration": "forever"},
    {"amount_off": 300, "currency": "usd", "duration": "once"},
)
#: Percentages, and whether they are part of the price.
TAX_RATES = ((20, False), (7.7, False), (19, True))


def put_coupon_on(system: System, payer: Payer, variant: int) -> None:
    """Put a coupon on the subscription, instead of those that it has."""
    params: Any = COUPONS[variant]
    coupon = system.api.v1.coupons.create(params)
    lasting = {coupon.id} if coupon.duration == "forever" else set()
    for subscription in _update(system, payer, discounts=[{"coupon": coupon.id}]):
        system.holds.coupons[subscription] = lasting


def take_coupon_off(system: System, payer: Payer, variant: int) -> None:
    for subscription in _update(system, payer, discounts=""):
        system.holds.coupons[subscription] = set()


def put_coupon_on_customer(system: System, payer: Payer, variant: int) -> None:
    params: Any = COUPONS[variant]
    coupon = system.api.v1.coupons.create(params)
    customer = payer.tenant.stripe_customer_id
    if customer:
        transact(system, discounts.set_on_customer, customer, coupon.id)


def tax(system: System, payer: Payer, variant: int) -> None:
    """Tax the subscription, or (variant 3) no longer."""
    if variant == 3:
        _update(system, payer, default_tax_rates="")
        return
    percentage, inclusive = TAX_RATES[variant]
    rate = system.api.v1.tax_rates.create(
        {"display_name": "VAT", "inclusive": inclusive, "percentage": percentage}
    )
    _update(system, payer, default_tax_rates=[rate.id])


def archive_price(system: System, payer: Payer, variant: int) -> None:
    """Archive the price of a plan."""
    _set_active(system, variant, active=False)


def unarchive_price(system: System, payer: Payer, variant: int) -> None:
    _set_active(system, variant, active=True)


def _set_active(system: System, number: int, *, active: bool) -> None:
    prices = sorted(system.prices.values())
    price = prices[number % len(prices)]
    request(system.api.v1.prices.update, price, {"active": active})


def _update(system: System, payer: Payer, **change: Any) -> list[str]:
    """Update the payer's subscription; returns its id, if there is one."""
    params: Any = change
    subscription = live_subscription(system, payer)
    if subscription is None:
        return []
    request(system.api.v1.subscriptions.update, subscription, params)
    return [subscription]


ACTIONS: tuple[StaffAction, ...] = (
    put_coupon_on,
    take_coupon_off,
    put_coupon_on_customer,
    tax,
    archive_price,
    unarchive_price,
)
