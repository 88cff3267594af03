"""Booking of Lightning payments: each one is counted once, and none is lost.

One of them marks the invoice as paid; anything beyond its amount repays its dispute
debt, then becomes credit.
"""

import structlog
from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Invoice, Stripe
from billing.clients.stripe.errors import StripeRefused
from billing.models import Credit, InvoiceCollection, Settlement
from billing.services.credits.posting import record_credit
from billing.services.invoices import locks
from billing.services.invoices.payer import record_first_payment
from billing.services.invoices.records import record_invoice
from billing.services.reversals.debts import repay_dispute
from caravel.core.currencies import charge_increment
from lightning.exceptions import PaymentInProgress
from lightning.models import LightningInvoice

logger = structlog.get_logger(__name__)

State = Settlement.State
#: Invoice metadata key: payment hash of the Lightning payment that marked it paid.
METADATA_KEY = "lightning_payment_hash"


def book_next(stripe: Stripe, collection: InvoiceCollection, invoice: Invoice) -> bool:
    """Book the oldest unbooked payment. Returns False if there is none.

    Raises PaymentInProgress while a card charge or a bank payment is pending.
    """
    payment = _oldest_unbooked(collection)
    if payment is None:
        return False
    if _reserve_invoice(collection, payment, invoice):
        _mark_paid_out_of_band(stripe, collection, payment, invoice)
    else:
        _record_booked(payment, collection.pk, applied_cents=None)
    return True


def value_cents(payment: LightningInvoice) -> int:
    """Return the value of a payment in the invoice's minor unit.

    The requested amount (routing fees are ours), plus any overpayment, which is rounded
    down so that Stripe can charge the sum in the currency.
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
    """Return the Lightning payment that pays an invoice, even before it is marked.

    One that has arrived counts at once if booking it will mark the invoice: it is the
    next to be booked, covers the remaining amount, and no card charge or bank payment
    is pending. One that became credit has paid nothing of the invoice.
    """
    if collection.stripe_status == InvoiceCollection.Status.VOID:
        return None
    marking = collection.settlements.filter(state__in=Settlement.MARK_STATES)
    if settlement := marking.select_related("invoice").first():
        return settlement.invoice
    payment = _oldest_unbooked(collection)
    if not payment or locks.has_pending_charge(collection.pk):
        return None
    if collection.is_bank_debited:
        return None
    is_enough = 0 < collection.chargeable_cents <= value_cents(payment)
    return payment if is_enough else None


def _oldest_unbooked(collection: InvoiceCollection) -> LightningInvoice | None:
    settled = LightningInvoice.objects.of(collection.pk).filter(
        state=LightningInvoice.State.SETTLED
    )
    unbooked = settled.exclude(settlement__state__in=Settlement.BOOKED_STATES)
    first: LightningInvoice | None = unbooked.first()
    return first


def _reserve_invoice(
    collection: InvoiceCollection, payment: LightningInvoice, invoice: Invoice
) -> bool:
    """Reserve the invoice for a payment that will mark it paid.

    Returns True as well if an interrupted run has reserved it; False if the invoice
    cannot take the payment, or another worker has just booked it.
    """
    with transaction.atomic():
        locked = locks.lock_collection(collection.pk)
        if locks.has_pending_charge(collection.pk):
            raise PaymentInProgress("A card payment is in progress.")
        if locked.is_bank_debited:
            # Marking the invoice as paid could not stop the bank.
            raise PaymentInProgress("A bank payment is in progress.")
        rows = Settlement.objects.filter(collection=collection)
        if settlement := rows.filter(invoice=payment).first():
            return bool(settlement.state == State.MARKING)
        is_reserved = rows.filter(state__in=Settlement.MARK_STATES).exists()
        fits = 0 < invoice.amount_remaining <= value_cents(payment)
        if (
            is_reserved
            or invoice.status not in InvoiceCollection.PAYABLE_STATUSES
            or not fits
        ):
            return False
        Settlement.objects.create(
            invoice=payment, collection=collection, state=State.MARKING
        )
    return True


def _mark_paid_out_of_band(
    stripe: Stripe,
    collection: InvoiceCollection,
    payment: LightningInvoice,
    invoice: Invoice,
) -> None:
    """Mark the reserved invoice as paid in Stripe, then record what was applied.

    After a crash the next run finds it marked and only records that.
    """
    marked = invoice
    if invoice.status in InvoiceCollection.PAYABLE_STATUSES:
        # First, so that after a crash the payment that marked it is known.
        stripe.invoices.set_metadata(invoice.id, {METADATA_KEY: payment.payment_hash})
        try:
            marked = stripe.invoices.mark_paid_out_of_band(invoice.id)
        except StripeRefused as exc:
            # Stripe has no error code for "already paid": the invoice itself decides.
            marked = stripe.invoices.get(invoice.id)
            if marked.status in InvoiceCollection.PAYABLE_STATUSES:
                raise
            logger.info("already_marked", error=exc.message, status=marked.status)
    applied_cents = _applied_cents(stripe, marked, payment)
    # Before the reservation ends: others must not read the invoice as unpaid.
    record_invoice(invoice=marked, tenant=collection.tenant)
    _record_booked(payment, invoice.id, applied_cents=applied_cents)


def _applied_cents(
    stripe: Stripe, invoice: Invoice, payment: LightningInvoice
) -> int | None:
    """Return the part of the invoice that this payment has paid, None if nothing.

    The rest, or all, may have been paid by card at Stripe.
    """
    marked_by = invoice.metadata.get(METADATA_KEY)
    if invoice.status != "paid" or marked_by != payment.payment_hash:
        return None
    payments = invoice.payments
    if payments is None:
        payments = tuple(stripe.invoices.list_payments(invoice.id))
    by_card = sum(
        each.amount_paid for each in payments if each.status == "paid" and each.intent
    )
    return max(0, invoice.amount_paid - by_card) or None


def _record_booked(
    payment: LightningInvoice, invoice_id: str, *, applied_cents: int | None
) -> None:
    """Record what a payment was applied to: invoice, dispute debt, then credit."""
    with transaction.atomic():
        collection = locks.lock_collection(invoice_id)
        row = Settlement.objects.filter(invoice=payment).first()
        if row and row.state != State.MARKING:
            return
        rest = max(0, value_cents(payment) - (applied_cents or 0))
        repaid = repay_dispute(collection, rest)
        amounts = {
            "marked_cents": applied_cents or 0,
            "repaid_cents": repaid,
            "surplus_cents": rest - repaid,
        }
        state = State.REPAID if repaid else State.CREDITED
        columns = {"collection": collection, "resolved_at": timezone.now(), **amounts}
        Settlement.objects.update_or_create(
            invoice=payment,
            defaults={"state": State.MARKED if applied_cents else state, **columns},
        )
        if rest > repaid:
            _record_surplus(payment, rest - repaid)
    record_first_payment(
        tenant_id=collection.tenant_id,
        amount_cents=value_cents(payment),
        currency=payment.currency,
    )
    logger.info("payment_booked", payment_hash=payment.payment_hash, **amounts)


def _record_surplus(payment: LightningInvoice, surplus_cents: int) -> None:
    record_credit(
        tenant_id=payment.tenant_id,
        reason=Credit.Reason.SURPLUS,
        source=payment.payment_hash,
        currency=payment.currency,
        amount_cents=surplus_cents,
    )
