"""Booking Lightning payments that arrived: each is counted once, and none is lost.

The invoice is marked as paid by one of them; whatever it cannot use becomes credit.
"""

import structlog
from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Invoice, Stripe
from billing.clients.stripe.currencies import charge_increment
from billing.exceptions import StripeRefused
from billing.models import Credit, InvoiceCollection, Settlement
from billing.services.credits.posting import record_credit
from billing.services.invoices import locks
from billing.services.invoices.records import record_invoice
from lightning.exceptions import PaymentInProgress
from lightning.models import LightningInvoice

logger = structlog.get_logger(__name__)

State = Settlement.State
#: What an invoice's metadata names the payment by that marked it.
METADATA = "lightning_payment_hash"
_PAYABLE = ("open", "uncollectible")


def book_next(stripe: Stripe, collection: InvoiceCollection, found: Invoice) -> bool:
    """Book the oldest payment that is not booked yet; False if there is none.

    Raises PaymentInProgress while a card has been asked and has not answered.
    """
    payment = _next(collection)
    if payment is None:
        return False
    if _begin_marking(collection, payment, found):
        _mark(stripe, collection, payment, found)
    else:
        _conclude(payment, collection.pk, marked_cents=None)
    return True


def value_cents(payment: LightningInvoice) -> int:
    """Return what a payment is worth, in the invoice's minor unit.

    What was asked for, whatever the receiver's node took off; more came, more counts,
    in the steps that the currency has at Stripe.
    """
    received = payment.received_msat or payment.amount_msat
    extra_msat = max(0, received - payment.amount_msat)
    extra_cents = extra_msat * payment.amount_cents // payment.amount_msat
    return (
        payment.amount_cents
        + extra_cents
        - extra_cents % charge_increment(payment.currency)
    )


def lightning_payment_for(collection: InvoiceCollection) -> LightningInvoice | None:
    """Return the Lightning payment that pays an invoice, be it marked by now or not.

    One that has arrived counts at once if it is going to mark the invoice, as it was
    last read: it is the next to be booked, covers what is left, and no card was asked.
    One that became credit has paid nothing of it.
    """
    if collection.stripe_status == InvoiceCollection.Status.VOID:
        return None
    begun = collection.settlements.exclude(state=State.CREDITED)
    if found := begun.select_related("invoice").first():
        return found.invoice
    payment = _next(collection)
    if not payment or locks.has_pending_charge(collection.pk):
        return None
    left = collection.amount_remaining_cents
    is_enough = collection.is_unpaid and left <= value_cents(payment)
    return payment if is_enough else None


def _next(collection: InvoiceCollection) -> LightningInvoice | None:
    arrived = LightningInvoice.objects.of(collection.pk)
    unbooked = arrived.filter(state=LightningInvoice.State.SETTLED).exclude(
        settlement__state__in=[State.MARKED, State.CREDITED]
    )
    first: LightningInvoice | None = unbooked.first()
    return first


def _begin_marking(
    collection: InvoiceCollection, payment: LightningInvoice, found: Invoice
) -> bool:
    """Claim the invoice for a payment, if it can take it; True if it had it already.

    Somebody else may just have booked the payment: then there is nothing to mark.
    """
    with transaction.atomic():
        locks.lock_collection(collection.pk)
        if locks.has_pending_charge(collection.pk):
            raise PaymentInProgress("The card has been asked to pay this.")
        rows = Settlement.objects.filter(collection=collection)
        if begun := rows.filter(invoice=payment).first():
            return bool(begun.state == State.MARKING)
        is_taken = rows.exclude(state=State.CREDITED).exists()
        fits = 0 < found.amount_remaining <= value_cents(payment)
        if is_taken or found.status not in _PAYABLE or not fits:
            return False
        Settlement.objects.create(
            invoice=payment, collection=collection, state=State.MARKING
        )
    return True


def _mark(
    stripe: Stripe,
    collection: InvoiceCollection,
    payment: LightningInvoice,
    found: Invoice,
) -> None:
    """Mark the invoice as paid by a payment, or find that it is, or cannot be."""
    marked = found
    if found.status in _PAYABLE:
        stripe.set_invoice_metadata(found.id, {METADATA: payment.payment_hash})
        try:
            marked = stripe.mark_paid_out_of_band(found.id)
        except StripeRefused as exc:
            # That it is paid already has no code of its own: what it is, decides.
            marked = stripe.get_invoice(found.id)
            if marked.status in _PAYABLE:
                raise
            logger.warning("marking_refused", error=exc.message, status=marked.status)
    cents = _marked_cents(stripe, marked, payment)
    # Before the claim ends: nobody is to take it for unpaid.
    record_invoice(found=marked, tenant=collection.tenant)
    _conclude(payment, found.id, marked_cents=cents)


def _marked_cents(
    stripe: Stripe, found: Invoice, payment: LightningInvoice
) -> int | None:
    """Return what of the invoice this payment has paid, None if nothing.

    A person may have paid a part of it, or all, by card at Stripe.
    """
    if found.status != "paid" or found.metadata.get(METADATA) != payment.payment_hash:
        return None
    payments = stripe.list_invoice_payments(found.id)
    at_stripe = sum(
        one.amount_paid for one in payments if one.status == "paid" and one.intent
    )
    return max(0, found.amount_paid - at_stripe) or None


def _conclude(
    payment: LightningInvoice, invoice_id: str, *, marked_cents: int | None
) -> None:
    """Record what a payment paid, and the credit for what is left of it."""
    surplus = max(0, value_cents(payment) - (marked_cents or 0))
    state = State.CREDITED if marked_cents is None else State.MARKED
    told = {"marked_cents": marked_cents or 0, "surplus_cents": surplus}
    with transaction.atomic():
        collection = locks.lock_collection(invoice_id)
        row = Settlement.objects.filter(invoice=payment).first()
        if row and row.state != State.MARKING:
            return
        columns = {"collection": collection, "resolved_at": timezone.now(), **told}
        Settlement.objects.update_or_create(
            invoice=payment, defaults={"state": state, **columns}
        )
        if surplus:
            _owe(payment, surplus)
    logger.info("payment_booked", payment_hash=payment.payment_hash, **told)


def _owe(payment: LightningInvoice, surplus: int) -> None:
    record_credit(
        tenant_id=payment.tenant_id,
        reason=Credit.Reason.SURPLUS,
        source=payment.payment_hash,
        currency=payment.currency,
        amount_cents=surplus,
    )
