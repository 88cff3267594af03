"""Division of a credit between an invoice and the customer's balance."""

from dataclasses import dataclass

from django.db.models import Sum

from billing.clients.stripe.client import Invoice
from billing.clients.stripe.currencies import minimum_charge
from billing.models import Credit


@dataclass(frozen=True)
class Allocation:
    """Amounts of a credit: `note_cents` for the invoice, `balance_cents` for the rest.

    The latter is negative if a remainder of the invoice is carried over to the next
    one. `closes` says that a note cannot reduce the invoice to zero.
    """

    note_cents: int
    balance_cents: int
    closes: bool = False


def allocate(credit: Credit, invoice: Invoice | None) -> Allocation:
    """Divide a credit; `invoice` is the one to reduce, as just read.

    A remainder below Stripe's minimum charge moves to the next invoice, as Stripe does
    with small invoices, so one cent never suspends a tenant.
    """
    if invoice is None or invoice.status != "open":
        cents = _balance_cents(credit, invoice, credit.amount_cents)
        return Allocation(0, cents)
    # A note cannot exceed the total; a debt carried over from an earlier invoice is
    # part of what remains, but not of the total.
    max_note = min(invoice.amount_remaining, max(invoice.total - invoice.credited, 0))
    note = min(credit.amount_cents, max_note)
    remainder = invoice.amount_remaining - note
    if note and 0 < remainder < minimum_charge(invoice.currency):
        carried = credit.amount_cents - invoice.amount_remaining
        closes = max_note < invoice.amount_remaining
        return Allocation(max_note, carried, closes=closes)
    return Allocation(note, _balance_cents(credit, invoice, credit.amount_cents - note))


def paid_cents(invoice: Invoice, *, surplus_credit_cents: int) -> int:
    """Return the paid and not refunded amount, in cents.

    `surplus_credit_cents` is the part of the credit notes that the tenant had paid.
    """
    if invoice.status == "void":
        return 0
    credited = max(0, invoice.credited - surplus_credit_cents)
    return max(0, invoice.total - credited - invoice.amount_remaining)


def surplus_credited_cents(invoice_id: str) -> int:
    """Return the sum of an invoice's credit notes for overpayments, in cents."""
    notes = Credit.objects.filter(
        reason=Credit.Reason.SURPLUS, collection=invoice_id
    ).exclude(credit_note_id="")
    return int(notes.aggregate(cents=Sum("note_cents", default=0))["cents"])


def _balance_cents(credit: Credit, invoice: Invoice | None, cents: int) -> int:
    """Return the part of `cents` that goes to the balance.

    Unused time is credited only as far as it was paid.
    """
    if invoice is None or credit.reason == Credit.Reason.SURPLUS:
        return cents
    surplus_credit_cents = surplus_credited_cents(invoice.id)
    return min(cents, paid_cents(invoice, surplus_credit_cents=surplus_credit_cents))
