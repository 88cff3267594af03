"""First step of posting a credit: a credit note reduces an open invoice."""

from typing import Any

from django.db import transaction

from billing.clients.stripe.client import CreditNote, Invoice, Stripe
from billing.clients.stripe.errors import StripeRefused
from billing.exceptions import CreditBlocked
from billing.models import Credit, InvoiceCollection, StripeWrite
from billing.services.credits.allocation import REDUCIBLE, Allocation, allocate
from billing.services.invoices.locks import lock_if_unblocked, payment_blocker
from billing.services.invoices.records import enqueue_collection, read_invoice
from billing.services.stripe_writes.writes import Write
from lightning.exceptions import PaymentInProgress
from tenants.models import Tenant

_UNCOLLECTIBLE = (
    "Stripe refuses credit notes on the uncollectible invoice: the credit waits until "
    "it is paid or void."
)


class CreateCreditNote(Write[CreditNote]):
    """Create the credit note of an allocated credit.

    The invoice cannot be paid while this is pending. `closes` is stored with a new
    write: the note has to be followed by marking the rest of the invoice as paid.
    """

    kind = StripeWrite.Kind.CREATE_CREDIT_NOTE

    def __init__(self, stripe: Stripe, credit: Credit, *, closes: bool = False) -> None:
        super().__init__(subject=str(credit.collection_id), tenant_id=credit.tenant_id)
        self._stripe = stripe
        self._credit = credit
        self._closes = closes

    def params(self, key: str) -> dict[str, Any]:
        credit = self._credit
        note = {
            "invoice": credit.collection_id,
            "amount": credit.note_cents,
            "memo": credit.description,
            "metadata": credit.stripe_metadata,
            # Stripe would send it to the customer by e-mail.
            "email_type": "none",
        }
        return {"note": note, "closes": self._closes}

    def send(self, params: dict[str, Any], key: str) -> CreditNote:
        return self._stripe.credit_notes.create(params["note"], key)

    def find(self, write: StripeWrite) -> CreditNote | None:
        for note in self._stripe.credit_notes.list(invoice=write.subject):
            if note.status != "void" and self._credit.matches_metadata(note.metadata):
                return note
        return None

    def save(self, resource: CreditNote) -> None:
        enqueue_collection(invoice_id=self.subject)
        Credit.objects.filter(pk=self._credit.pk).update(credit_note_id=resource.id)

    def pending(self) -> StripeWrite | None:
        """Return the pending write of this credit; the invoice may have another."""
        of_invoice = StripeWrite.objects.of(self.kind, self.subject).pending()
        of_credit = of_invoice.filter(
            params__note__metadata=self._credit.stripe_metadata
        )
        return of_credit.first()


def plan_credit_note(stripe: Stripe, credit: Credit) -> None:
    """Allocate a credit, and record the credit note that it leads to.

    Raises CreditBlocked or PaymentInProgress while its invoice cannot be reduced.
    """
    for invoice_id in _candidate_invoices(credit):
        invoice = _read_candidate(stripe, credit, invoice_id)
        if invoice is None:
            continue
        try:
            allocation = allocate(credit, invoice)
            return _save_allocation(stripe, credit, invoice, allocation)
        except PaymentInProgress:
            # A payment has started since; a surplus may reduce another invoice.
            if credit.collection_id:
                raise
    _save_allocation(stripe, credit, None, allocate(credit, None))


def _candidate_invoices(credit: Credit) -> list[str]:
    """Return the credit's own invoice, or those that a surplus may reduce."""
    if credit.collection_id:
        return [credit.collection_id]
    unpaid = InvoiceCollection.objects.unpaid().filter(
        tenant=credit.tenant_id,
        stripe_status=InvoiceCollection.Status.OPEN,
        currency=credit.currency,
    )
    ids = unpaid.order_by("created_at", "pk").values_list("pk", flat=True)
    # Without a lock: `_save_allocation` checks again under it.
    return [invoice_id for invoice_id in ids if not payment_blocker(invoice_id)]


def _read_candidate(stripe: Stripe, credit: Credit, invoice_id: str) -> Invoice | None:
    """Return the invoice as it is at Stripe, None if a surplus cannot reduce it.

    Raises CreditBlocked while the credit's own invoice accepts no credit notes: as a
    draft, and also as uncollectible if Stripe has refused one.
    """
    invoice = stripe.invoices.get(invoice_id)
    if credit.collection_id is None:
        reducible = invoice.status == "open" and invoice.amount_remaining > 0
        return invoice if reducible else None
    if invoice.status == "draft":
        raise CreditBlocked("The invoice that it reduces is still a draft.")
    if invoice.status == "uncollectible" and _was_refused(credit):
        raise CreditBlocked(_UNCOLLECTIBLE)
    return invoice


def _was_refused(credit: Credit) -> bool:
    """Return whether Stripe has refused a credit note for this credit."""
    kind = StripeWrite.Kind.CREATE_CREDIT_NOTE
    writes = StripeWrite.objects.of(kind, str(credit.collection_id)).filter(
        params__note__metadata=credit.stripe_metadata, state=StripeWrite.State.FAILED
    )
    return writes.exists()


def _save_allocation(
    stripe: Stripe, credit: Credit, invoice: Invoice | None, allocation: Allocation
) -> None:
    """Store the allocation and record its credit note, in one transaction.

    So nothing can pay the invoice in between: the pending note blocks it.
    """
    reduced = invoice.id if invoice and allocation.note_cents else None
    with transaction.atomic():
        Tenant.objects.lock(credit.tenant_id)
        if reduced:
            lock_if_unblocked(reduced)
        locked = Credit.objects.lock(credit.pk)
        if locked.note_cents is not None:
            # Another worker has allocated it.
            return
        locked.collection_id = reduced or credit.collection_id
        locked.note_cents = allocation.note_cents
        locked.balance_cents = allocation.balance_cents
        Credit.objects.filter(pk=locked.pk).update(
            collection=locked.collection_id,
            note_cents=locked.note_cents,
            balance_cents=locked.balance_cents,
        )
        if reduced:
            CreateCreditNote(stripe, locked, closes=allocation.closes).record()


def create_credit_note(stripe: Stripe, credit: Credit) -> None:
    """Create the planned credit note; plan again if it was refused or abandoned."""
    creation = CreateCreditNote(stripe, credit)
    write = creation.pending()
    try:
        note = creation.resume(write) if write else None
    except StripeRefused as exc:
        _wait_if_uncollectible(stripe, credit, exc)
        raise
    if write is None or note is None:
        return _replan(stripe, credit)
    if write.params["closes"]:
        _mark_remainder_paid(stripe, write.subject)
    # Before the write is resolved: once it no longer blocks payments, nothing must
    # charge the amount from before the note.
    read_invoice(stripe, write.subject, credit.tenant)
    creation.complete(write, note)


def _wait_if_uncollectible(
    stripe: Stripe, credit: Credit, refusal: StripeRefused
) -> None:
    """Plan again if the invoice is uncollectible, and raise CreditBlocked."""
    if stripe.invoices.get(str(credit.collection_id)).status == "uncollectible":
        _replan(stripe, credit)
        raise CreditBlocked(_UNCOLLECTIBLE) from refusal


def _replan(stripe: Stripe, credit: Credit) -> None:
    """Drop the allocation of a credit whose note will not be created."""
    with transaction.atomic():
        locked = Credit.objects.lock(credit.pk)
        if locked.credit_note_id or CreateCreditNote(stripe, credit).pending():
            return
        surplus = credit.reason == Credit.Reason.SURPLUS
        Credit.objects.filter(pk=credit.pk).update(
            note_cents=None,
            balance_cents=None,
            collection=None if surplus else locked.collection_id,
        )


def _mark_remainder_paid(stripe: Stripe, invoice_id: str) -> None:
    """Close an invoice that the note could not reduce to zero.

    The allocation moves the remainder to the balance, and so to the next invoice.
    """
    if stripe.invoices.get(invoice_id).status in REDUCIBLE:
        stripe.invoices.mark_paid_out_of_band(invoice_id)
