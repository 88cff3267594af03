"""One way of paying an invoice at a time, and none while it is being changed.

Whatever may bring money for an invoice, or change what it asks for, has a row: an
attempt on a wallet or a card, a bolt11 that may still be paid, a credit note under way,
a payment that is being booked. Each is made under the lock of the collection, and only
if none of the others is there; so the row is the claim. Locks are taken in one order:
Lightning invoices, their attempts, the tenant, the collection.
"""

from dataclasses import dataclass
from datetime import datetime

from billing.exceptions import InvoiceChanged
from billing.models import (
    CardAttempt,
    Credit,
    InvoiceCollection,
    Settlement,
    StripeIntent,
)
from lightning.exceptions import PaymentInProgress
from lightning.models import NwcPayment
from lightning.services.invoices import busy_until


@dataclass(frozen=True)
class Busy:
    """What keeps an invoice from anything else, and until when if that is known."""

    why: str
    until: datetime | None = None


def busy(invoice_id: str) -> Busy | None:
    """Return what may still pay or change an invoice, None if nothing does."""
    other = _busy_elsewhere(invoice_id)
    if other:
        return other
    until = busy_until(invoice_id)
    return Busy("It may still be paid by Lightning.", until) if until else None


def busy_for_person(invoice_id: str) -> Busy | None:
    """Return what keeps a person from paying an invoice, None if nothing does.

    A bolt11 that they were shown and did not pay is no reason: they may ask for
    another soon after it has expired.
    """
    attempts = NwcPayment.objects.pending().filter(stripe_invoice_id=invoice_id)
    attempt = attempts.select_related("invoice").first()
    if attempt:
        return Busy("It may still be paid by Lightning.", attempt.invoice.dies_at)
    return _busy_elsewhere(invoice_id)


def require_idle(invoice_id: str) -> InvoiceCollection:
    """Lock and return a collection that nothing else may pay or change.

    Raises PaymentInProgress, with the time until when if that is known. To be called
    in the transaction that records what comes next.
    """
    collection = lock(invoice_id)
    _raise_if(busy(invoice_id))
    return collection


def require_no_other_rail(invoice_id: str) -> InvoiceCollection:
    """Like `require_idle`, for who looks after the Lightning invoices itself."""
    collection = lock(invoice_id)
    _raise_if(_busy_elsewhere(invoice_id))
    return collection


def require_unchanged(locked: InvoiceCollection, read: InvoiceCollection) -> None:
    """Make sure that what is about to be paid is what was read, and stays so.

    Raises InvoiceChanged, also while it is about to be reduced.
    """
    then = (read.status, read.amount_remaining_cents)
    if (locked.status, locked.amount_remaining_cents) != then:
        raise InvoiceChanged("The invoice has just changed.")
    if is_to_be_reduced(locked):
        raise InvoiceChanged("The invoice is about to be reduced.")


def is_to_be_reduced(collection: InvoiceCollection) -> bool:
    """Return whether a credit is owed on it, or its subscription's end is not settled.

    Nobody is charged meanwhile for time that will not be served.
    """
    kind = StripeIntent.Kind.CANCEL_SUBSCRIPTION
    ends = StripeIntent.objects.of(kind, collection.stripe_subscription_id)
    owed = Credit.objects.owed().filter(collection=collection)
    return owed.exists() or ends.pending().exists()


def require_turn(locked: InvoiceCollection, read: InvoiceCollection) -> None:
    """Make sure that the step of the ladder that was read is still to be taken.

    Raises InvoiceChanged when another worker has taken it, or a rung has begun since.
    """
    then = (read.next_rail, read.rung_begun_at)
    if (locked.next_rail, locked.rung_begun_at) != then:
        raise InvoiceChanged("Another step is to be taken now.")


def lock(invoice_id: str) -> InvoiceCollection:
    """Lock and return a collection."""
    rows = InvoiceCollection.objects.select_for_update()
    collection: InvoiceCollection = rows.get(pk=invoice_id)
    return collection


def is_attempted(invoice_id: str) -> bool:
    """Return whether a wallet or a card has been asked and has not answered yet."""
    wallets = NwcPayment.objects.pending().filter(stripe_invoice_id=invoice_id)
    return is_charged(invoice_id) or wallets.exists()


def is_charged(invoice_id: str) -> bool:
    """Return whether a card has been asked and has not answered yet."""
    return CardAttempt.objects.pending().filter(collection=invoice_id).exists()


def _busy_elsewhere(invoice_id: str) -> Busy | None:
    if is_charged(invoice_id):
        return Busy("The card has been asked to pay this.")
    kind = StripeIntent.Kind.CREATE_CREDIT_NOTE
    if StripeIntent.objects.of(kind, invoice_id).pending().exists():
        return Busy("The amount is about to be reduced.")
    marking = Settlement.objects.filter(
        collection=invoice_id, state=Settlement.State.MARKING
    )
    if marking.exists():
        return Busy("A payment has arrived and is being booked.")
    return None


def _raise_if(found: Busy | None) -> None:
    if found:
        raise PaymentInProgress(found.why, until=found.until)
