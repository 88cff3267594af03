"""Times when the tenants' relays ran, and when Stripe billed for them.

Two independent sources: the activity log and Stripe's subscription events.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from billing.services.subscriptions.diff import LIVE
from billing.tests.support.simulation.system import System
from relays.models import Plan
from sandbox.stripe.store.records import Record
from tenants.models import Activity, Tenant

#: In seconds, like all times here.
HOUR = 3_600


class PriceChange(NamedTuple):
    """A new monthly price of a relay or subscription from a Unix time on."""

    at: float
    subject: str
    cents: int


def drift_faults(system: System) -> list[str]:
    """Return a line for each difference between relays and subscription that stays."""
    tenants = Tenant.objects.exclude(
        pk__in=system.excluded_tenants | system.tenants_with_more_grace
    )
    return [fault for tenant in tenants for fault in _undetected_drift(system, tenant)]


def relay_changes(tenant: Tenant) -> list[PriceChange]:
    """Return price changes of a tenant's relays, from the activity log."""
    prices = {plan.pk: plan.amount_cents for plan in Plan.objects.all()}
    rows = Activity.objects.filter(tenant=tenant, subject_type="relay").order_by("pk")
    return [
        PriceChange(
            row.created_at.timestamp(),
            row.subject_id,
            prices[row.snapshot["plan"]] if row.snapshot["status"] == "active" else 0,
        )
        for row in rows
    ]


def subscription_changes(system: System, tenant: Tenant) -> list[PriceChange]:
    """Return price changes of a tenant's subscriptions, from Stripe's events.

    A paused subscription bills nothing, and a copy that staff made is not the tenant's.
    """
    return [
        PriceChange(
            event["created"],
            subscription["id"],
            monthly_price(subscription) if subscription["status"] in LIVE else 0,
        )
        for event in system.history.subscription_events
        for subscription in [event["data"]["object"]]
        if subscription["id"] not in system.duplicates
        and system.owner_of(subscription["customer"]) == tenant.pk
    ]


def monthly_price(subscription: Record) -> int:
    """Return the list price of all items of a subscription, as an event shows it."""
    items = subscription["items"]["data"]
    return sum(item["price"]["unit_amount"] * item["quantity"] for item in items)


def used_cents(
    changes: Sequence[PriceChange], periods: Sequence[tuple[int, int]], now: float
) -> float:
    """Return the list price of the time that relays ran up to now."""
    moments = {change.at for change in changes} | {now}
    moments |= {bound for period in periods for bound in period}
    cents = 0.0
    for start, end in pairwise(sorted(moment for moment in moments if moment <= now)):
        monthly = monthly_cents(changes, start)
        cents += monthly * (end - start) / _period_seconds(periods, start)
    return cents


def monthly_cents(changes: Iterable[PriceChange], moment: float) -> int:
    """Return the monthly price at a moment."""
    costs: dict[str, int] = {}
    for change in changes:
        if change.at <= moment:
            costs[change.subject] = change.cents
    return sum(costs.values())


def idle_since(changes: Sequence[PriceChange], moment: float) -> float:
    """Return since when nothing ran before a moment; the moment if something did."""
    since = moment
    for change in reversed([change for change in changes if change.at < moment]):
        if monthly_cents(changes, change.at):
            return since
        since = change.at
    return since


def _undetected_drift(system: System, tenant: Tenant) -> Iterator[str]:
    """Check that no difference between relays and subscription stays undetected.

    The hourly reconciliation finds changes without a webhook; a change just before it
    is found by the next one.
    """
    running, billed = relay_changes(tenant), subscription_changes(system, tenant)
    for start, end in _differences(running, billed, system.now.timestamp()):
        idle = [
            beat.at
            for beat in system.rounds
            if start + HOUR <= beat.at < end
            and not beat.stripe_fails
            and tenant.pk not in beat.waiting
        ]
        if idle and idle[-1] - idle[0] >= HOUR:
            used, paid = monthly_cents(running, start), monthly_cents(billed, start)
            hours = (end - start) / HOUR
            yield f"{tenant.pk} uses {used}, is billed {paid} a month for {hours:.1f} h"


def _differences(
    first: Sequence[PriceChange], second: Sequence[PriceChange], now: float
) -> Iterator[tuple[float, float]]:
    """Yield start and end of the times at which the monthly prices differ."""
    start = None
    for moment in sorted({change.at for change in (*first, *second)}):
        differ = monthly_cents(first, moment) != monthly_cents(second, moment)
        if differ and start is None:
            start = moment
        elif not differ and start is not None:
            yield start, moment
            start = None
    if start is not None:
        yield start, now


def _period_seconds(periods: Iterable[tuple[int, int]], moment: float) -> int:
    """Return the length of the period at a moment, in seconds.

    Before the first period, when Stripe has not heard of the relay, it is 30 days.
    """
    lengths = [end - start for start, end in periods if start <= moment]
    return lengths[-1] if lengths else 30 * 86_400
