"""Invariants about what staff set on purpose at Stripe: it stays, and is respected."""

import math
from collections.abc import Iterator

from billing.services.subscriptions.diff import LIVE
from billing.tests.support.simulation.balances import tenant_invoices
from billing.tests.support.simulation.invoice_money import subscription_of
from billing.tests.support.simulation.staff.objects import ENDED
from billing.tests.support.simulation.system import System
from relays.models import Relay
from sandbox.stripe.store.records import Record


def hold_faults(system: System) -> list[str]:
    """Return a line for each hold that was overruled."""
    return [
        *_finalized_drafts(system),
        *_overruled_pauses(system),
        *_running_while_paused(system),
        *_lost_discounts(system),
    ]


def _finalized_drafts(system: System) -> Iterator[str]:
    """Check that drafts held by staff are drafts while their subscription lives."""
    for invoice in tenant_invoices(system):
        hold = system.holds.drafts.get(invoice["id"])
        if hold and _finalized_at(invoice) < hold and _lives(system, invoice):
            yield f"{invoice['id']} was finalized although staff hold it"


def _overruled_pauses(system: System) -> Iterator[str]:
    """Check that Caravel has ended no pause, and no paused subscription."""
    for id, pause in system.holds.pauses.items():
        subscription = system.stripe.app.store.get("subscription", id)
        if subscription and subscription["status"] not in ENDED:
            actual = (subscription["pause_collection"] or {}).get("behavior")
            if actual != pause:
                yield f"the collection of {id} is {actual}, not {pause}"
    for id in system.holds.paused:
        subscription = system.stripe.app.store.get("subscription", id)
        if subscription and subscription["status"] != "paused":
            pubkey = system.owner_of(subscription["customer"])
            # None billable, no subscription: the tenant may switch its relays off.
            if Relay.objects.filter(tenant=pubkey).paid().exclude(status="inactive"):
                yield f"{id} is {subscription['status']}, not paused"


def _running_while_paused(system: System) -> Iterator[str]:
    """Check that a paused subscription switches its relays off."""
    for id in system.holds.paused:
        subscription = system.stripe.app.store.get("subscription", id)
        if subscription and subscription["status"] == "paused":
            pubkey = system.owner_of(subscription["customer"])
            for relay in Relay.objects.filter(tenant=pubkey).billable():
                yield f"{relay} runs while {id} is paused"


def _lost_discounts(system: System) -> Iterator[str]:
    """Check that a new subscription has the lasting discounts of the one before."""
    store = system.stripe.app.store
    for id, coupons in system.holds.coupons.items():
        subscription = store.get("subscription", id)
        if subscription is None or subscription["status"] not in ENDED:
            continue
        for later in store.scan("subscription"):
            if _follows(system, later, subscription) and coupons - _coupons(
                system, later
            ):
                yield f"{later['id']} lacks the discount of {id}: {coupons}"


def _follows(system: System, later: Record, earlier: Record) -> bool:
    return (
        later["customer"] == earlier["customer"]
        and later["created"] >= earlier["ended_at"]
        and later["status"] in LIVE
        and later["id"] not in {*system.duplicates, *system.holds.coupons}
    )


def _coupons(system: System, subscription: Record) -> set[str]:
    store = system.stripe.app.store
    discounts = (store.get("discount", id) for id in subscription["_discounts"])
    return {each["_coupon"]["id"] for each in discounts if each}


def _lives(system: System, invoice: Record) -> bool:
    """Return whether the subscription of an invoice has not ended."""
    store = system.stripe.app.store
    subscription = store.get("subscription", subscription_of(invoice))
    return bool(subscription and subscription["status"] not in ENDED)


def _finalized_at(invoice: Record) -> float:
    """Return when an invoice was finalized; of a draft, a time that never comes."""
    at: int | None = invoice["status_transitions"]["finalized_at"]
    return math.inf if at is None else at
