"""Amounts of an invoice: what was paid, given back, taken back, and what is left.

Everything that needs one of these sums takes it from here. An amount is given back by a
refund or by a credit note of staff; a note that includes a refund counts once. Notes by
Caravel are not given back: those for unused time reduce the price, and those for
overpayments were paid by the tenant.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Sum

from billing.clients.stripe.client import Invoice
from billing.models import Credit, Reversal


@dataclass(frozen=True)
class InvoiceAmounts:
    """Amounts of an invoice, in cents; all 0 if it is void.

    `total_cents` is after discounts, with taxes. `paid_cents` counts money, customer
    balance and overpayments, before anything was returned; `kept_cents` is what is left
    of it. Disputed money that the tenant has paid again is not in `taken_back_cents`.
    """

    total_cents: int = 0
    remaining_cents: int = 0
    paid_cents: int = 0
    given_back_cents: int = 0
    taken_back_cents: int = 0
    kept_cents: int = 0

    @property
    def returned_cents(self) -> int:
        """Amount that was given or taken back."""
        return self.given_back_cents + self.taken_back_cents

    @property
    def creditable_cents(self) -> int:
        """Maximum of all credits for unused time of this invoice."""
        return max(0, self.total_cents - self.returned_cents)


def invoice_amounts(invoice: Invoice) -> InvoiceAmounts:
    """Return the amounts of an invoice as just read, with our rows about it."""
    if invoice.status == "void":
        return InvoiceAmounts()
    unserved = _note_cents(invoice.id, Credit.Reason.UNSERVED)
    surplus = _note_cents(invoice.id, Credit.Reason.SURPLUS)
    # A person may have voided a note of ours.
    notes = max(0, invoice.credited - unserved - surplus)
    # Caravel credits no more than remains, so notes after the payment are by staff.
    notes_before_payment = max(0, notes - invoice.credited_after_payment)
    settled = invoice.total - invoice.amount_remaining - unserved
    given_back = _given_back_cents(invoice.id, notes)
    taken_back = taken_back_cents(invoice.id)
    return InvoiceAmounts(
        total_cents=invoice.total,
        remaining_cents=max(0, invoice.amount_remaining),
        paid_cents=max(0, settled - notes_before_payment),
        given_back_cents=given_back,
        taken_back_cents=taken_back,
        kept_cents=max(0, settled - given_back - taken_back),
    )


def refunded_cents(invoice_ids: Iterable[str]) -> dict[str, int]:
    """Return the refunds of invoices, by invoice; those without are left out."""
    refunds = Reversal.objects.refunds().filter(collection__in=list(invoice_ids))
    sums = refunds.order_by().values("collection").annotate(cents=Sum("amount_cents"))
    return dict(sums.values_list("collection", "cents"))


def taken_back_cents(invoice_id: str) -> int:
    """Return the disputed amount of an invoice that was not paid again."""
    disputes = Reversal.objects.disputes().filter(collection=invoice_id)
    amounts: Iterable[tuple[int, int]] = disputes.values_list(
        "amount_cents", "repaid_cents"
    )
    return sum(max(0, amount - repaid) for amount, repaid in amounts)


def _note_cents(invoice_id: str, reason: Credit.Reason) -> int:
    notes = Credit.objects.filter(collection=invoice_id, reason=reason)
    noted = notes.exclude(credit_note_id="").aggregate(
        cents=Sum("note_cents", default=0)
    )
    return int(noted["cents"])


def _given_back_cents(invoice_id: str, notes: int) -> int:
    """Return the refunds and the notes of staff, without counting a refund twice."""
    refunds = Reversal.objects.filter(collection=invoice_id, kind=Reversal.Kind.REFUND)
    given, alone = refunds.refunds(), refunds.refunds().filter(credit_note_id="")
    # The note stays if its refund fails.
    failed = refunds.filter(state__in=Reversal.FAILED_STATES)
    failed_notes = failed.exclude(credit_note_id="").sum_cents()
    linked = given.sum_cents() - alone.sum_cents()
    # A note may include a part of a refund only.
    return max(notes - failed_notes, linked) + alone.sum_cents()
