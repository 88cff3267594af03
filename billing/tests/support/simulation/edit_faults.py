"""Invariants about edits of objects that Caravel made: ours stays ours."""

from collections.abc import Iterator

from billing.tests.support.simulation.balances import (
    live_subscriptions,
    tenant_invoices,
)
from billing.tests.support.simulation.invoice_money import charges_of, subscription_of
from billing.tests.support.simulation.system import System


def edit_faults(system: System) -> list[str]:
    """Return a line for each edit that has lasting consequences."""
    return [*_unrepaired(system), *_duplicates(system), *_charged_duplicates(system)]


def _unrepaired(system: System) -> Iterator[str]:
    """Check that a subscription of ours names its tenant."""
    for subscription in live_subscriptions(system):
        pubkey = system.owner_of(subscription["customer"])
        if subscription["metadata"].get("tenant_pubkey") != pubkey:
            yield f"{subscription['id']} does not name its tenant {pubkey}"


def _duplicates(system: System) -> Iterator[str]:
    """Check that no copy of a subscription is left."""
    for subscription in live_subscriptions(system):
        if subscription["id"] in system.duplicates:
            yield f"{subscription['id']} is a copy, and {subscription['status']}"


def _charged_duplicates(system: System) -> Iterator[str]:
    """Check that Caravel has charged nobody for a copy."""
    for invoice in tenant_invoices(system):
        if subscription_of(invoice) in system.duplicates:
            for charge in charges_of(system.stripe.app.store, invoice["id"]):
                if charge["id"] not in system.charges_by_payers:
                    yield f"{charge['id']} was charged for {invoice['id']} of a copy"
