"""One way of paying an invoice at a time, and none while it is being changed.

Whatever may bring money for an invoice, or change what it asks for, has a row: an
attempt on a wallet or a card, a bolt11 that may still be paid, a credit note under way,
a payment that has arrived and is not booked yet. Each is made under the lock of the
collection, and only if none of the others is there; so the row is the claim. Locks are
taken in one order: Lightning invoices, their attempts, the tenant, the collection.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from billing.exceptions import InvoiceChanged
from billing.models import (
    CardAttempt,
    Credit,
    InvoiceCollection,
    Settlement,
    StripeWrite,
)
from lightning.exceptions import PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment
from lightning.services.invoices import payable_until

_BOOKED = [Settlement.State.MARKED, Settlement.State.CREDITED]


@dataclass(frozen=True)
class Blocker:
    """What keeps an invoice from anything else, and until when if that is known."""

    why: str
    until: datetime | None = None


def payment_blocker(invoice_id: str) -> Blocker | None:
    """Return what may still pay or change an invoice, None if nothing does."""
    # Before the claims: a bolt11 that is paid in between is found by one of the two.
    until = payable_until(invoice_id)
    if other := _blocker_elsewhere(invoice_id):
        return other
    return Blocker("It may still be paid by Lightning.", until) if until else None


def blocker_for_payer(invoice_id: str) -> Blocker | None:
    """Return what keeps a person from paying an invoice, None if nothing does.

    A bolt11 that they were shown and did not pay is no reason: they may ask for
    another soon after it has expired.
    """
    return blockers_for_payer([invoice_id]).get(invoice_id)


def blockers_for_payer(invoice_ids: Collection[str]) -> dict[str, Blocker]:
    """Return what keeps people from paying each of these invoices that is not free.

    However many they are, it takes as many queries as one.
    """
    found: dict[str, Blocker] = {}
    attempts = NwcPayment.objects.pending().filter(stripe_invoice_id__in=invoice_ids)
    for attempt in attempts.select_related("invoice"):
        until = attempt.invoice.final_at
        why = Blocker("It may still be paid by Lightning.", until)
        found[attempt.stripe_invoice_id] = why
    for reason, ids in _blockers(invoice_ids):
        for invoice_id in ids:
            found.setdefault(invoice_id, reason)
    return found


def lock_if_unblocked(invoice_id: str) -> InvoiceCollection:
    """Lock and return a collection that nothing else may pay or change.

    Raises PaymentInProgress, with the time until when if that is known. To be called
    in the transaction that records what comes next.
    """
    collection = lock_collection(invoice_id)
    _raise_if(payment_blocker(invoice_id))
    return collection


def lock_if_no_other_method(invoice_id: str) -> InvoiceCollection:
    """Like `lock_if_unblocked`, for who looks after the Lightning invoices itself."""
    collection = lock_collection(invoice_id)
    _raise_if(_blocker_elsewhere(invoice_id))
    return collection


def require_unchanged(locked: InvoiceCollection, read: InvoiceCollection) -> None:
    """Make sure that what is about to be paid is what was read, and stays so.

    Raises InvoiceChanged, also while it is about to be reduced.
    """
    then = (read.stripe_status, read.amount_remaining_cents)
    if (locked.stripe_status, locked.amount_remaining_cents) != then:
        raise InvoiceChanged("The invoice has just changed.")
    if has_pending_reduction(locked):
        raise InvoiceChanged("The invoice is about to be reduced.")


def has_pending_reduction(collection: InvoiceCollection) -> bool:
    """Return whether a credit is owed on it, or its subscription's end is not settled.

    Nobody is charged meanwhile for time that will not be served.
    """
    kind = StripeWrite.Kind.CANCEL_SUBSCRIPTION
    ends = StripeWrite.objects.of(kind, collection.stripe_subscription_id)
    owed = Credit.objects.owed().filter(collection=collection)
    return owed.exists() or ends.pending().exists()


def require_same_step(locked: InvoiceCollection, read: InvoiceCollection) -> None:
    """Make sure that the step of the ladder that was read is still to be taken.

    Raises InvoiceChanged when another worker has taken it, or a rung has begun since.
    """
    then = (read.next_action, read.attempt_started_at)
    if (locked.next_action, locked.attempt_started_at) != then:
        raise InvoiceChanged("Another step is to be taken now.")


def lock_collection(invoice_id: str) -> InvoiceCollection:
    """Lock and return a collection."""
    rows = InvoiceCollection.objects.select_for_update()
    collection: InvoiceCollection = rows.get(pk=invoice_id)
    return collection


def has_pending_attempt(invoice_id: str) -> bool:
    """Return whether a wallet or a card has been asked and has not answered yet."""
    wallets = NwcPayment.objects.pending().filter(stripe_invoice_id=invoice_id)
    return has_pending_charge(invoice_id) or wallets.exists()


def has_pending_charge(invoice_id: str) -> bool:
    """Return whether a card has been asked and has not answered yet."""
    return CardAttempt.objects.pending().filter(collection=invoice_id).exists()


def has_unbooked_payment(invoice_id: str) -> bool:
    """Return whether a Lightning payment has arrived that is not booked yet."""
    return _arrived([invoice_id]).exists()


def _blocker_elsewhere(invoice_id: str) -> Blocker | None:
    for reason, ids in _blockers([invoice_id]):
        if ids.exists():
            return reason
    return None


def _blockers(
    invoice_ids: Collection[str],
) -> Iterator[tuple[Blocker, QuerySet[Any, str]]]:
    """Yield what may pay or change these invoices beside Lightning, and which it is."""
    cards = CardAttempt.objects.pending().filter(collection__in=invoice_ids)
    charged = cards.values_list("collection_id", flat=True)
    yield Blocker("The card has been asked to pay this."), charged
    notes = StripeWrite.objects.pending().filter(
        kind=StripeWrite.Kind.CREATE_CREDIT_NOTE, subject__in=invoice_ids
    )
    reduced = notes.values_list("subject", flat=True)
    yield Blocker("The amount is about to be reduced."), reduced
    arrived = _arrived(invoice_ids).values_list("stripe_invoice_id", flat=True)
    yield Blocker("A payment has arrived and is being booked."), arrived


def _arrived(invoice_ids: Collection[str]) -> QuerySet[LightningInvoice]:
    settled = LightningInvoice.objects.filter(
        stripe_invoice_id__in=invoice_ids, state=LightningInvoice.State.SETTLED
    )
    return settled.exclude(settlement__state__in=_BOOKED)


def _raise_if(found: Blocker | None) -> None:
    if found:
        raise PaymentInProgress(found.why, until=found.until)
