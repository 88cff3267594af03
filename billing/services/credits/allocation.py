"""Division of a credit between an invoice and the customer's balance."""

from dataclasses import dataclass

from billing.clients.stripe.client import Invoice
from billing.models import Credit
from caravel.core.currencies import minimum_charge

#: Statuses of invoices that a credit note can reduce. Sources disagree about
#: uncollectible ones, so a note on these is tried.
REDUCIBLE = frozenset({"open", "uncollectible"})


@dataclass(frozen=True)
class Allocation:
    """Amounts of a credit: `note_cents` for the invoice, `balance_cents` for the rest.

    The latter is negative for a debit, and if a remainder of the invoice is carried
    over to the next one. `closes` says that a note cannot reduce the invoice to zero.
    """

    note_cents: int
    balance_cents: int
    closes: bool = False


def allocate(credit: Credit, invoice: Invoice | None) -> Allocation:
    """Divide a credit; `invoice` is the one to reduce, as just read.

    A remainder below Stripe's minimum charge moves to the next invoice, as Stripe does
    with small invoices, so one cent never suspends a tenant.
    """
    if invoice is None or credit.amount_cents < 0:
        return Allocation(0, credit.amount_cents)
    if invoice.status not in REDUCIBLE:
        # Nobody pays a void invoice, so nothing of it can be unused.
        unused = credit.reason == Credit.Reason.UNSERVED and invoice.status == "void"
        return Allocation(0, 0 if unused else credit.amount_cents)
    # A note cannot exceed the total; a debt carried over from an earlier invoice is
    # part of what remains, but not of the total.
    max_note = min(invoice.amount_remaining, max(invoice.total - invoice.credited, 0))
    note = min(credit.amount_cents, max_note)
    remainder = invoice.amount_remaining - note
    if note and 0 < remainder < minimum_charge(invoice.currency):
        carried = credit.amount_cents - invoice.amount_remaining
        closes = max_note < invoice.amount_remaining
        return Allocation(max_note, carried, closes=closes)
    return Allocation(note, credit.amount_cents - note)
