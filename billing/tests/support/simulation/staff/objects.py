"""A payer's objects at Stripe, found by its customer."""

from collections.abc import Callable, Iterator
from typing import Any

import stripe

from billing.tests.support.simulation.actions import Payer
from billing.tests.support.simulation.system import System
from sandbox.stripe.api.errors import StripeError
from sandbox.stripe.store.records import Record

StaffAction = Callable[[System, Payer, int], None]
ENDED = ("canceled", "incomplete_expired")


def request(send: Callable[..., object], *args: Any) -> None:
    """Send a request as staff; ignore a refusal, or a fault that was for Caravel."""
    try:
        send(*args)
    except stripe.StripeError:
        return


def transact(
    system: System, work: Callable[..., object], *args: Any, **options: Any
) -> None:
    """Act as a bank, a card network or the dashboard; ignore a refusal."""
    try:
        system.stripe.app.transact(lambda context: work(context, *args, **options))
    except StripeError as refusal:
        assert refusal.status in (400, 402, 404)


def read(system: System, kind: str, id: str) -> Record:
    """Return an object of Caravel's as it is now at Stripe."""
    record = system.stripe.app.store.get(kind, id)
    assert record is not None
    return record


def of_payer(system: System, payer: Payer, kind: str) -> Iterator[Record]:
    """Yield a payer's objects of a kind, newest first."""
    for record in system.stripe.app.store.scan(kind):
        if system.owner_of(str(record["customer"])) == payer.pubkey:
            yield record


def live_subscription(system: System, payer: Payer) -> str | None:
    """Return the id of the payer's subscription that Caravel made, if it is live."""
    for subscription in of_payer(system, payer, "subscription"):
        is_copy = subscription["id"] in system.duplicates
        if subscription["status"] not in ENDED and not is_copy:
            return str(subscription["id"])
    return None


def pick(records: Iterator[Record], number: int) -> list[Record]:
    """Return at most one of the records."""
    found = list(records)
    return [found[number % len(found)]] if found else []


def invoices(system: System, payer: Payer, *statuses: str) -> Iterator[Record]:
    """Yield a payer's invoices with one of the statuses."""
    for invoice in of_payer(system, payer, "invoice"):
        if invoice["status"] in statuses:
            yield invoice


def succeeded_charges(system: System, payer: Payer) -> Iterator[Record]:
    for charge in of_payer(system, payer, "charge"):
        if charge["status"] == "succeeded":
            yield charge
