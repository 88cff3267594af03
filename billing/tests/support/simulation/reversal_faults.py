"""Invariants about money that was given back or taken back.

Each check returns or yields its violations.
"""

from collections.abc import Iterator
from itertools import pairwise

from billing.models import InvoiceCollection, Reversal
from billing.services.subscriptions.diff import LIVE
from billing.tests.support.simulation.invoice_money import HOLDS_MONEY, InvoiceMoney
from billing.tests.support.simulation.price_history import (
    HOUR,
    monthly_price,
    relay_changes,
)
from billing.tests.support.simulation.served_time import invoice_moneys
from billing.tests.support.simulation.system import System
from sandbox.stripe.store.records import Record
from tenants.models import Tenant

#: Grace before a debt switches relays off, and time for a round of tasks, in seconds.
GRACE = 7 * 24 * HOUR + HOUR
REVERSALS = ("refund", "dispute", "radar.early_fraud_warning")


def charge_faults(system: System) -> list[str]:
    """Return a line for each charge of a disputed card, at any moment."""
    store = system.stripe.app.store
    charges = [
        charge
        for charge in store.scan("charge")
        if charge["id"] not in system.charges_by_payers
    ]
    return [
        f"{charge['id']} was charged while {dispute['id']} was {dispute['status']}"
        for dispute in store.scan("dispute")
        if dispute["status"] in HOLDS_MONEY
        for charge in charges
        if charge["created"] > _taken_at(dispute) + HOUR
        and _is_same_card(charge, store.get("charge", dispute["charge"]))
    ]


def reversal_faults(system: System) -> list[str]:
    """Return violations that must not remain after a recovery."""
    tenants = Tenant.objects.exclude(pk__in=system.excluded_tenants)
    return [
        *_missing_rows(system),
        *(
            fault
            for tenant in tenants
            for fault in (
                *_wrong_debts(system, tenant),
                *_sold_on_debt(system, tenant),
                *_running_on_debt(system, tenant),
            )
        ),
    ]


# --- rows


def _missing_rows(system: System) -> Iterator[str]:
    """Check that each refund, dispute and warning has a row with its state."""
    rows = {row.stripe_id: row for row in Reversal.objects.all()}
    for kind in REVERSALS:
        for record in system.stripe.app.store.scan(kind):
            row = rows.get(record["id"])
            if row is None:
                yield f"{kind} {record['id']} has no row"
            elif row.state != record.get("status", row.state):
                yield f"{record['id']} is {record['status']}, recorded as {row.state}"
            elif row.amount_cents != record.get("amount", row.amount_cents):
                yield f"{record['id']} is over {record['amount']}: {row.amount_cents}"


# --- debts


def _wrong_debts(system: System, tenant: Tenant) -> Iterator[str]:
    """Check the debt of each invoice, to the rounded line."""
    rows = InvoiceCollection.objects.filter(tenant=tenant)
    recorded = dict(rows.values_list("pk", "dispute_debt_cents"))
    for money in invoice_moneys(system, tenant):
        debt = recorded.get(money.id, 0)
        # The end of the relays or, a little later, that of the subscription.
        if abs(debt - money.debt) > 1 + money.taken // 100:
            yield f"{money.id} has a debt of {debt}, not {money.debt}: {money}"


def _sold_on_debt(system: System, tenant: Tenant) -> Iterator[str]:
    """Check that no subscription began or grew while disputed money was owed.

    Only after an hour in which nothing failed: the dispute is known by then.
    """
    for money in invoice_moneys(system, tenant):
        since = _debt_since(system, money)
        for event, before in _increases(system, tenant) if since else ():
            if _was_known(system, tenant, since or 0, event["created"]):
                subscription = event["data"]["object"]
                yield (
                    f"{tenant.pk}: {subscription['id']} grew from {before} to "
                    f"{monthly_price(subscription)} while {money.id} had a debt"
                )


def _running_on_debt(system: System, tenant: Tenant) -> Iterator[str]:
    """Check that no paid relay runs once the grace of a disputed payment is over."""
    is_excused = tenant.dunning_exempt or tenant.pk in system.tenants_with_more_grace
    running = relay_changes(tenant)
    latest = {change.subject: change.cents for change in running}
    if is_excused or not sum(latest.values()):
        return
    for money in invoice_moneys(system, tenant):
        since = _debt_since(system, money)
        if since and since + GRACE < system.now.timestamp():
            yield f"{tenant.pk} runs relays; {money.id} has had a debt since {since}"


def _debt_since(system: System, money: InvoiceMoney) -> float | None:
    """Return since when an invoice has had the debt that it has now, or None."""
    if not money.debt:
        return None
    taken = [
        _taken_at(dispute)
        for dispute in system.stripe.app.store.scan("dispute")
        if dispute["status"] in HOLDS_MONEY and _invoice_of(system, dispute) == money.id
    ]
    return max(taken, default=None)


def _increases(system: System, tenant: Tenant) -> Iterator[tuple[Record, int]]:
    """Yield the events by which Caravel's subscriptions grew, and the price before."""
    of_tenant = [
        event
        for event in system.history.subscription_events
        if event["data"]["object"]["id"] not in system.duplicates
        and system.owner_of(event["data"]["object"]["customer"]) == tenant.pk
    ]
    prices = [(event, _live_price(event)) for event in of_tenant]
    for (_, before), (event, price) in pairwise([({}, 0), *prices]):
        if price > before:
            yield event, before


def _live_price(event: Record) -> int:
    subscription = event["data"]["object"]
    return monthly_price(subscription) if subscription["status"] in LIVE else 0


def _was_known(system: System, tenant: Tenant, since: float, until: float) -> bool:
    """Return whether an hour without failures has passed between two moments."""
    rounds = [
        beat.at
        for beat in system.rounds
        if since + HOUR <= beat.at < until and not beat.stripe_fails
    ]
    return bool(rounds) and rounds[-1] - rounds[0] >= HOUR


# --- cards


def _is_same_card(charge: Record, disputed: Record | None) -> bool:
    if disputed is None or charge["customer"] != disputed["customer"]:
        return False
    if charge["payment_method"] == disputed["payment_method"]:
        return True
    numbers = [_fingerprint(each) for each in (charge, disputed)]
    return None not in numbers and numbers[0] == numbers[1]


def _fingerprint(charge: Record) -> str | None:
    details = charge["payment_method_details"]
    fingerprint: str | None = (details.get("card") or {}).get("fingerprint")
    return fingerprint


def _taken_at(dispute: Record) -> int:
    """Return when a dispute took the money: an inquiry does so when it escalates."""
    moved = [item["created"] for item in dispute["balance_transactions"]]
    return int(min(moved, default=dispute["created"]))


def _invoice_of(system: System, dispute: Record) -> str:
    intent = system.stripe.app.store.get("payment_intent", dispute["payment_intent"])
    return str(intent["_invoice"]) if intent else ""
