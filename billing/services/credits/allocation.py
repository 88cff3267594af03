"""How a credit is divided between an invoice and the customer's balance."""

from dataclasses import dataclass

from django.db.models import Sum

from billing.clients.stripe.client import Invoice
from billing.models import Credit
from caravel.core.currencies import minimum_charge


@dataclass(frozen=True)
class Allocation:
    """An invoice is reduced by `note_cents`, the balance raised by `balance_cents`.

    The latter is negative where what is left of the invoice is owed with the next one
    instead; `closes` if a note alone cannot bring it to nothing.
    """

    note_cents: int
    balance_cents: int
    closes: bool = False


def allocate(credit: Credit, found: Invoice | None) -> Allocation:
    """Return how a credit is posted, given the invoice it is for, as just read.

    Too little to be charged is not left over: it is owed with the next invoice, as
    Stripe itself does with small invoices, so that nobody is kept out for one cent.
    """
    if found is None or found.status != "open":
        return Allocation(0, _to_balance(credit, found, credit.amount_cents))
    # A note never exceeds the total; a debt that was carried over is on top of that.
    most = min(found.amount_remaining, max(found.total - found.credited, 0))
    note = min(credit.amount_cents, most)
    rest = found.amount_remaining - note
    if note and 0 < rest < minimum_charge(found.currency):
        carried = credit.amount_cents - found.amount_remaining
        return Allocation(most, carried, closes=most < found.amount_remaining)
    return Allocation(note, _to_balance(credit, found, credit.amount_cents - note))


def paid_cents(found: Invoice, *, surplus_credit_cents: int) -> int:
    """Return the paid and not refunded amount, in cents.

    `surplus_credit_cents` is the part of the credit notes that was the tenant's money.
    """
    if found.status == "void":
        return 0
    credited = max(0, found.credited - surplus_credit_cents)
    return max(0, found.total - credited - found.amount_remaining)


def surplus_credited_cents(invoice_id: str) -> int:
    """Return what an invoice was reduced by because too much had arrived, in cents."""
    notes = Credit.objects.filter(
        reason=Credit.Reason.SURPLUS, collection=invoice_id
    ).exclude(credit_note_id="")
    return int(notes.aggregate(cents=Sum("note_cents", default=0))["cents"])


def _to_balance(credit: Credit, found: Invoice | None, amount: int) -> int:
    """Return what goes to the balance: for time not served, no more than was paid."""
    if found is None or credit.reason == Credit.Reason.SURPLUS:
        return amount
    surplus_credit_cents = surplus_credited_cents(found.id)
    return min(amount, paid_cents(found, surplus_credit_cents=surplus_credit_cents))
