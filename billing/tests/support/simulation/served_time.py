"""What a tenant was served, and what it gave for it, in cents.

Two accounts that know nothing of each other: what relays ran when, by our own log of
activities, and what Stripe, cards and wallets hold. Stripe's word on when it billed for
what decides only how late it was told.
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
    our_invoices,
    pubkey_of,
)
from billing.tests.support.simulation.system import World
from relays.models import Plan
from sandbox.stripe.store import Record
from tenants.models import Activity, Tenant

#: In seconds, as all times here.
HOUR = 3_600


class Step(NamedTuple):
    """From a moment on, in seconds of the epoch, something costs so much a month."""

    at: float
    what: str
    cents: int


@dataclass(frozen=True)
class Account:
    """All of one tenant's money, and all of its time.

    `late` is what ran before Stripe knew, or was billed for after it had ended;
    `never_served` what is written off for time after the end of its subscription, since
    no credit note can reduce it any more.
    """

    captured: int
    owed: int
    written_off: int
    pending: int
    prepaid: float
    credit: int
    served: float
    late: float
    never_served: float
    rounded: int

    @property
    def missing(self) -> float:
        """What the tenant gave, or is to give, beyond what it got; negative: less."""
        given = self.captured + self.owed + self.written_off + self.pending
        return given - self.prepaid - self.credit - self.served

    @property
    def tolerance(self) -> float:
        """A cent for each line and each change of a relay, and what was late."""
        return self.rounded + self.late

    @property
    def is_balanced(self) -> bool:
        most = self.tolerance + self.never_served
        return -self.tolerance <= self.missing <= most


def faults_of_accounts(world: World) -> list[str]:
    """Return whose money is not what was served.

    Nobody's is who got something from support itself: see `World.favour`.
    """
    tenants = Tenant.objects.exclude(pk__in=world.favoured)
    return [
        fault
        for one in tenants
        for fault in (*_unbalanced(world, one), *_left_alone(world, one))
    ]


def account_of(world: World, tenant: Tenant) -> Account:
    """Return what a tenant gave and got up to now."""
    mine = [one for one in our_invoices(world) if pubkey_of(one) == tenant.pk]
    billed = [one for one in mine if one["status"] != "void"]
    pending = _pending_items(world, tenant)
    lines = [line for invoice in billed for line in invoice["_lines"]]
    live = {one["id"] for one in live_subscriptions(world)}
    prepaid = [line for line in lines if line["subscription"] in live]
    now = world.now.timestamp()
    relays, subscriptions = _relays(tenant), _subscriptions(world, tenant)
    periods = _periods(lines)
    return Account(
        captured=sum(_captured(world, one["id"]) for one in mine),
        owed=sum(_owed(one) for one in mine),
        written_off=sum(
            one["amount_remaining"] for one in mine if one["status"] == "uncollectible"
        ),
        pending=sum(item["amount"] for item in pending),
        prepaid=sum(_unserved(line, now) for line in [*prepaid, *pending]),
        credit=_credit(world, tenant),
        served=_worth(relays, (), periods, now),
        late=_worth(relays, subscriptions, periods, now),
        never_served=sum(_never_served(world, one) for one in mine),
        rounded=len(lines) + len(pending) + len(relays),
    )


def _unbalanced(world: World, tenant: Tenant) -> Iterator[str]:
    found = account_of(world, tenant)
    if not found.is_balanced:
        yield f"{tenant.pk} gave {found.missing:.2f} too much: {found}"


def _left_alone(world: World, tenant: Tenant) -> Iterator[str]:
    """Yield when relays ran unbilled, or were billed and off, and nobody was at it.

    The hourly reconciliation finds what no webhook told of; a second one, what the
    first one was too early for.
    """
    ran, billed = _relays(tenant), _subscriptions(world, tenant)
    for start, end in _differing(ran, billed, world.now.timestamp()):
        idle = [
            one.at
            for one in world.rounds
            if start + HOUR <= one.at < end
            and not one.stripe_fails
            and tenant.pk not in one.waiting
        ]
        if idle and idle[-1] - idle[0] >= HOUR:
            cents = _monthly(ran, start), _monthly(billed, start)
            yield f"{tenant.pk} had {cents} a month for {(end - start) / HOUR:.1f} h"


def _differing(
    some: Sequence[Step], others: Sequence[Step], now: float
) -> Iterator[tuple[float, float]]:
    """Yield from when until when the two do not cost the same."""
    start = None
    for moment in sorted({step.at for step in (*some, *others)}):
        differ = _monthly(some, moment) != _monthly(others, moment)
        if differ and start is None:
            start = moment
        elif not differ and start is not None:
            yield start, moment
            start = None
    if start is not None:
        yield start, now


# --- money


def _captured(world: World, invoice: str) -> int:
    return captured_by_card(world, invoice) + captured_by_lightning(world, invoice)


def _owed(invoice: Record) -> int:
    if invoice["status"] == "draft":
        # What is on the balance it takes into account when it is finalized.
        return int(invoice["total"])
    return int(invoice["amount_remaining"]) if invoice["status"] == "open" else 0


def _never_served(world: World, invoice: Record) -> float:
    """Return what a write-off bills of the time after its subscription's end."""
    details = invoice["parent"]["subscription_details"]
    subscription = world.stripe.app.store.get("subscription", details["subscription"])
    if subscription is None or invoice["status"] != "uncollectible":
        return 0
    ended = subscription["ended_at"]
    if ended is None:
        return 0
    return max(0, sum(_unserved(line, ended) for line in invoice["_lines"]))


def _credit(world: World, tenant: Tenant) -> int:
    """Return what is on the balance, where credit is negative, or will be."""
    owed = Credit.objects.owed().filter(tenant=tenant)
    balance = sum(int(one["balance"]) for one in _customers(world, tenant))
    return sum(int(one.amount_cents) for one in owed) - balance


def _pending_items(world: World, tenant: Tenant) -> list[Record]:
    """Return what is to be on a coming invoice."""
    scan = world.stripe.app.store.scan
    return [
        item
        for customer in _customers(world, tenant)
        for item in scan("invoiceitem", index=("customer", customer["id"]))
        if item["invoice"] is None
    ]


def _customers(world: World, tenant: Tenant) -> list[Record]:
    customers = world.stripe.app.store.scan("customer")
    return [
        one
        for one in customers
        if not one.get("deleted") and one["metadata"].get("tenant_pubkey") == tenant.pk
    ]


def _unserved(line: Record, now: float) -> float:
    """Return what a line, or what is to be one, bills of the time from now on."""
    start, end = line["period"]["start"], line["period"]["end"]
    left = (end - now) / (end - start) if end > start else 0
    return float(line["amount"]) * max(0.0, min(left, 1.0))


# --- time


def _relays(tenant: Tenant) -> list[Step]:
    """Return what a tenant's relays cost, by the log of what happened to them."""
    prices = {plan.pk: plan.amount_cents for plan in Plan.objects.all()}
    rows = Activity.objects.filter(tenant=tenant, subject_type="relay").order_by("pk")
    return [
        Step(
            row.created_at.timestamp(),
            row.subject_id,
            prices[row.snapshot["plan"]] if row.snapshot["status"] == "active" else 0,
        )
        for row in rows
    ]


def _subscriptions(world: World, tenant: Tenant) -> list[Step]:
    """Return what Stripe billed for, by its own events."""
    prices = {plan.stripe_price_id: plan.amount_cents for plan in Plan.objects.paid()}
    found = []
    for event in world.subscription_events:
        subscription = event["data"]["object"]
        if subscription["metadata"].get("tenant_pubkey") == tenant.pk:
            items = subscription["items"]["data"]
            cents = sum(prices[one["price"]["id"]] * one["quantity"] for one in items)
            billing = subscription["status"] in LIVE
            found.append(
                Step(event["created"], subscription["id"], cents if billing else 0)
            )
    return found


def _periods(lines: Iterable[Record]) -> list[tuple[int, int]]:
    """Return the months that were billed, as the lines for whole ones have them."""
    regular = (line for line in lines if not _is_proration(line))
    found = {(line["period"]["start"], line["period"]["end"]) for line in regular}
    return sorted(found)


def _is_proration(line: Record) -> bool:
    parent = line["parent"]
    details = parent["subscription_item_details"] or parent["invoice_item_details"]
    return bool(details["proration"])


def _worth(
    steps: Sequence[Step],
    less: Sequence[Step],
    periods: Sequence[tuple[int, int]],
    now: float,
) -> float:
    """Return what the time costs by which the two differ, up to now."""
    moments = {step.at for step in (*steps, *less)} | {now}
    moments |= {bound for period in periods for bound in period}
    cents = 0.0
    for start, end in pairwise(sorted(one for one in moments if one <= now)):
        monthly = abs(_monthly(steps, start) - _monthly(less, start))
        cents += monthly * (end - start) / _month(periods, start)
    return cents


def _monthly(steps: Iterable[Step], moment: float) -> int:
    costs: dict[str, int] = {}
    for step in steps:
        if step.at <= moment:
            costs[step.what] = step.cents
    return sum(costs.values())


def _month(periods: Iterable[tuple[int, int]], moment: float) -> int:
    """Return the length of the last period that had begun, in seconds.

    Before any, which Stripe was told of late, it is that of most months.
    """
    begun = [end - start for start, end in periods if start <= moment]
    return begun[-1] if begun else 30 * 86_400
