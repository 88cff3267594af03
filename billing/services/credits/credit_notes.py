"""The first part of posting a credit: an open invoice asks for less."""

from django.db import transaction

from billing.clients.stripe.client import CreditNote, Invoice, Stripe
from billing.exceptions import CreditBlocked
from billing.models import Credit, InvoiceCollection, StripeWrite
from billing.services.credits.allocation import Allocation, allocate
from billing.services.invoices.locks import lock_if_unblocked, payment_blocker
from billing.services.invoices.records import enqueue_collection, read_invoice
from billing.services.stripe_writes import writes
from lightning.exceptions import PaymentInProgress
from tenants.models import Tenant

_NOTE = StripeWrite.Kind.CREATE_CREDIT_NOTE


def plan_credit_note(stripe: Stripe, credit: Credit) -> None:
    """Decide what goes where, and record the note that is about to be made.

    Raises CreditBlocked or PaymentInProgress while its invoice takes none.
    """
    for invoice_id in _targets(credit):
        found = _read_target(stripe, credit, invoice_id)
        if found is None:
            continue
        try:
            return _store_plan(credit, found, allocate(credit, found))
        except PaymentInProgress:
            if credit.collection_id:
                raise
    _store_plan(credit, None, allocate(credit, None))


def _targets(credit: Credit) -> list[str]:
    """Return the invoice that a credit is for; of a surplus, those it may reduce."""
    if credit.collection_id:
        return [credit.collection_id]
    unpaid = InvoiceCollection.objects.unpaid().filter(
        tenant=credit.tenant_id,
        stripe_status=InvoiceCollection.Status.OPEN,
        currency=credit.currency,
    )
    ids = unpaid.order_by("created_at", "pk").values_list("pk", flat=True)
    return [invoice_id for invoice_id in ids if not payment_blocker(invoice_id)]


def _read_target(stripe: Stripe, credit: Credit, invoice_id: str) -> Invoice | None:
    """Return the invoice as it is, None if a surplus must look for another.

    Raises CreditBlocked while it is a draft: that takes no credit note.
    """
    found = stripe.get_invoice(invoice_id)
    if credit.collection_id is None:
        reducible = found.status == "open" and found.amount_remaining > 0
        return found if reducible else None
    if found.status == "draft":
        raise CreditBlocked("The invoice that it reduces is still a draft.")
    return found


def _store_plan(credit: Credit, found: Invoice | None, plan: Allocation) -> None:
    with transaction.atomic():
        Tenant.objects.lock(credit.tenant_id)
        if found and plan.note_cents:
            lock_if_unblocked(found.id)
        if Credit.objects.lock(credit.pk).note_cents is not None:
            return
        reduces = found.id if found and plan.note_cents else credit.collection_id
        Credit.objects.filter(pk=credit.pk).update(
            collection=reduces,
            note_cents=plan.note_cents,
            balance_cents=plan.balance_cents,
        )
        if found and plan.note_cents:
            _open_note(credit, found, plan)


def _drop_plan(credit: Credit) -> None:
    """Plan anew: nothing came of the note, whose intent has ended."""
    with transaction.atomic():
        locked = Credit.objects.lock(credit.pk)
        if locked.credit_note_id or _pending_note(credit):
            return
        surplus = credit.reason == Credit.Reason.SURPLUS
        Credit.objects.filter(pk=credit.pk).update(
            note_cents=None,
            balance_cents=None,
            collection=None if surplus else locked.collection_id,
        )


def _open_note(credit: Credit, found: Invoice, plan: Allocation) -> None:
    note = {
        "invoice": found.id,
        "amount": plan.note_cents,
        "memo": credit.description,
        "metadata": credit.stripe_metadata,
    }
    writes.create_write(
        kind=_NOTE,
        subject=found.id,
        tenant_id=credit.tenant_id,
        params=lambda key: {"note": note, "closes": plan.closes},
    )


def _pending_note(credit: Credit) -> StripeWrite | None:
    of_invoice = StripeWrite.objects.of(_NOTE, str(credit.collection_id)).pending()
    mine = of_invoice.filter(params__note__metadata=credit.stripe_metadata)
    return mine.first()


def create_credit_note(stripe: Stripe, credit: Credit) -> None:
    """Make the planned note, or plan anew if nothing came of it."""
    intent = _pending_note(credit)
    if intent is None:
        return _drop_plan(credit)
    note = writes.resume(
        intent,
        send=lambda params, key: stripe.create_credit_note(params["note"], key),
        find=lambda intent: _find_note(stripe, credit),
    )
    if note is None:
        return _drop_plan(credit)
    if intent.params["closes"]:
        _close(stripe, intent.subject)
    # Before the claim ends: nobody is to be charged for what the invoice asked before.
    read_invoice(stripe, intent.subject, credit.tenant)
    writes.keep(intent, note, lambda made: _store_note(credit, made))


def _find_note(stripe: Stripe, credit: Credit) -> CreditNote | None:
    notes = stripe.list_credit_notes(invoice=str(credit.collection_id))
    mine = (
        n for n in notes if n.status != "void" and credit.matches_metadata(n.metadata)
    )
    return next(mine, None)


def _close(stripe: Stripe, invoice_id: str) -> None:
    """Mark as paid what no note could take off: it is owed with the next invoice."""
    if stripe.get_invoice(invoice_id).status == "open":
        stripe.mark_paid_out_of_band(invoice_id)


def _store_note(credit: Credit, note: CreditNote) -> None:
    enqueue_collection(invoice_id=str(credit.collection_id))
    Credit.objects.filter(pk=credit.pk).update(credit_note_id=note.id)
