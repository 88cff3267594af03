"""Compare the time that a tenant's relays ran with what the tenant paid, in cents.

Two independent sources: the activity log, which says when relays ran, and the money at
Stripe and in our own wallet. Stripe's subscription events are used only to allow for
the delay with which Stripe learned of a change.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from billing.models import Credit
from billing.services.subscriptions.diff import LIVE
from billing.tests.support.simulation.balances import (
    captured_by_card,
    captured_by_lightning,
    live_subscriptions,
    pubkey_of,
    tenant_invoices,
)
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


@dataclass(frozen=True)
class Account:
    """A tenant's money and used time, in cents.

    `late` is the price of time during which Stripe did not yet know of a change.
    """

    captured: int
    owed: int
    written_off: int
    pending: int
    prepaid: float
    credit: int
    used: float
    late: float
    rounded: int

    @property
    def excess(self) -> float:
        """Amount paid or owed beyond the used time; negative if too little."""
        total = self.captured + self.owed + self.written_off + self.pending
        return total - self.prepaid - self.credit - self.used

    @property
    def tolerance(self) -> float:
        """A cent of rounding for each line and each relay change, plus `late`."""
        return self.rounded + self.late

    @property
    def is_balanced(self) -> bool:
        return abs(self.excess) <= self.tolerance


def account_faults(system: System) -> list[str]:
    """Return a line for each tenant whose money does not match its used time.

    Some tenants are excluded: see `System.exclude_from_balance`.
    """
    tenants = Tenant.objects.exclude(pk__in=system.excluded_tenants)
    return [
        fault
        for tenant in tenants
        for fault in (*_imbalance(system, tenant), *_undetected_drift(system, tenant))
    ]


def account_for(system: System, tenant: Tenant) -> Account:
    """Return a tenant's account up to now."""
    invoices = [
        invoice
        for invoice in tenant_invoices(system)
        if pubkey_of(invoice) == tenant.pk
    ]
    not_void = [invoice for invoice in invoices if invoice["status"] != "void"]
    pending = _pending_items(system, tenant)
    lines = [line for invoice in not_void for line in invoice["_lines"]]
    live = {subscription["id"] for subscription in live_subscriptions(system)}
    prepaid = [line for line in lines if line["subscription"] in live]
    now = system.now.timestamp()
    relays, subscriptions = (
        _relay_changes(tenant),
        _subscription_changes(system, tenant),
    )
    periods = _periods(lines)
    return Account(
        captured=sum(_captured(system, invoice["id"]) for invoice in invoices),
        owed=sum(_owed(invoice) for invoice in invoices),
        written_off=sum(
            invoice["amount_remaining"]
            for invoice in invoices
            if invoice["status"] == "uncollectible"
        ),
        pending=sum(item["amount"] for item in pending),
        prepaid=sum(_unused(line, now) for line in [*prepaid, *pending]),
        credit=_credit(system, tenant),
        used=_cost_of_difference(relays, (), periods, now),
        late=_cost_of_difference(relays, subscriptions, periods, now),
        rounded=len(lines) + len(pending) + len(relays),
    )


def _imbalance(system: System, tenant: Tenant) -> Iterator[str]:
    account = account_for(system, tenant)
    if not account.is_balanced:
        yield f"{tenant.pk} paid {account.excess:.2f} too much: {account}"


def _undetected_drift(system: System, tenant: Tenant) -> Iterator[str]:
    """Check that no difference between relays and subscription stays undetected.

    The hourly reconciliation finds changes without a webhook; a change just before it
    is found by the next one.
    """
    running, billed = _relay_changes(tenant), _subscription_changes(system, tenant)
    for start, end in _differences(running, billed, system.now.timestamp()):
        idle = [
            beat.at
            for beat in system.rounds
            if start + HOUR <= beat.at < end
            and not beat.stripe_fails
            and tenant.pk not in beat.waiting
        ]
        if idle and idle[-1] - idle[0] >= HOUR:
            used, paid = _monthly_cents(running, start), _monthly_cents(billed, start)
            hours = (end - start) / HOUR
            yield f"{tenant.pk} uses {used}, is billed {paid} a month for {hours:.1f} h"


def _differences(
    first: Sequence[PriceChange], second: Sequence[PriceChange], now: float
) -> Iterator[tuple[float, float]]:
    """Yield start and end of the times at which the monthly prices differ."""
    start = None
    for moment in sorted({change.at for change in (*first, *second)}):
        differ = _monthly_cents(first, moment) != _monthly_cents(second, moment)
        if differ and start is None:
            start = moment
        elif not differ and start is not None:
            yield start, moment
            start = None
    if start is not None:
        yield start, now


# --- money


def _captured(system: System, invoice: str) -> int:
    return captured_by_card(system, invoice) + captured_by_lightning(system, invoice)


def _owed(invoice: Record) -> int:
    if invoice["status"] == "draft":
        # The customer balance is applied only when the draft is finalized.
        return int(invoice["total"])
    return int(invoice["amount_remaining"]) if invoice["status"] == "open" else 0


def _credit(system: System, tenant: Tenant) -> int:
    """Return the credit on the customer balance or still to be posted."""
    owed = Credit.objects.owed().filter(tenant=tenant)
    # Credit is a negative balance.
    balance = sum(int(customer["balance"]) for customer in _customers(system, tenant))
    return sum(int(credit.amount_cents) for credit in owed) - balance


def _pending_items(system: System, tenant: Tenant) -> list[Record]:
    """Return invoice items that are not on an invoice yet."""
    scan = system.stripe.app.store.scan
    return [
        item
        for customer in _customers(system, tenant)
        for item in scan("invoiceitem", index=("customer", customer["id"]))
        if item["invoice"] is None
    ]


def _customers(system: System, tenant: Tenant) -> list[Record]:
    customers = system.stripe.app.store.scan("customer")
    return [
        customer
        for customer in customers
        if not customer.get("deleted")
        and customer["metadata"].get("tenant_pubkey") == tenant.pk
    ]


def _unused(line: Record, now: float) -> float:
    """Return the part of a line or invoice item for time after now."""
    start, end = line["period"]["start"], line["period"]["end"]
    left = (end - now) / (end - start) if end > start else 0
    return float(cost(line)) * max(0.0, min(left, 1.0))


def cost(line: Record) -> int:
    """Return what a line costs: its amount after discounts, with exclusive taxes.

    An invoice item has none of them yet.
    """
    taken = sum(int(each["amount"]) for each in line.get("discount_amounts", ()))
    added = sum(
        int(tax["amount"])
        for tax in line.get("taxes", ())
        if tax["tax_behavior"] == "exclusive"
    )
    return int(line["amount"]) - taken + added


# --- time


def _relay_changes(tenant: Tenant) -> list[PriceChange]:
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


def _subscription_changes(system: System, tenant: Tenant) -> list[PriceChange]:
    """Return price changes of a tenant's subscriptions, from Stripe's events."""
    prices = {plan.stripe_price_id: plan.amount_cents for plan in Plan.objects.paid()}
    changes = []
    for event in system.subscription_events:
        subscription = event["data"]["object"]
        if subscription["metadata"].get("tenant_pubkey") == tenant.pk:
            items = subscription["items"]["data"]
            cents = sum(
                prices[item["price"]["id"]] * item["quantity"] for item in items
            )
            is_live = subscription["status"] in LIVE
            changes.append(
                PriceChange(
                    event["created"], subscription["id"], cents if is_live else 0
                )
            )
    return changes


def _periods(lines: Iterable[Record]) -> list[tuple[int, int]]:
    """Return the billing periods, from the lines that are not prorations."""
    regular = (line for line in lines if not _is_proration(line))
    periods = {(line["period"]["start"], line["period"]["end"]) for line in regular}
    return sorted(periods)


def _is_proration(line: Record) -> bool:
    parent = line["parent"]
    details = parent["subscription_item_details"] or parent["invoice_item_details"]
    return bool(details["proration"])


def _cost_of_difference(
    changes: Sequence[PriceChange],
    other_changes: Sequence[PriceChange],
    periods: Sequence[tuple[int, int]],
    now: float,
) -> float:
    """Return the price of all differences up to now, in cents."""
    moments = {change.at for change in (*changes, *other_changes)} | {now}
    moments |= {bound for period in periods for bound in period}
    cents = 0.0
    for start, end in pairwise(sorted(moment for moment in moments if moment <= now)):
        monthly = abs(
            _monthly_cents(changes, start) - _monthly_cents(other_changes, start)
        )
        cents += monthly * (end - start) / _period_seconds(periods, start)
    return cents


def _monthly_cents(changes: Iterable[PriceChange], moment: float) -> int:
    costs: dict[str, int] = {}
    for change in changes:
        if change.at <= moment:
            costs[change.subject] = change.cents
    return sum(costs.values())


def _period_seconds(periods: Iterable[tuple[int, int]], moment: float) -> int:
    """Return the length of the period at a moment, in seconds.

    Before the first period, when Stripe has not heard of the relay, it is 30 days.
    """
    lengths = [end - start for start, end in periods if start <= moment]
    return lengths[-1] if lengths else 30 * 86_400
