"""Ends of Lightning invoices and of the attempts to pay them, as rows.

The callers hold the locks of `lock_with_payment`, and decide which end it is.
"""

from collections.abc import Iterable
from datetime import datetime

import structlog
from django.utils import timezone

from caravel.core.db.encrypted_text import Secret
from caravel.core.db.work_items import NO_FAILURE
from lightning.models import LightningInvoice, NwcPayment
from lightning.services.wallets import clear_wallet_error

logger = structlog.get_logger(__name__)

State = LightningInvoice.State


def lock_with_payment(invoice_id: int) -> tuple[LightningInvoice, NwcPayment | None]:
    """Lock an invoice, then the attempt to pay it, if there is one."""
    invoice = LightningInvoice.objects.select_for_update().get(pk=invoice_id)
    return invoice, _lock_payments([invoice_id]).get(invoice_id)


def lock_all_with_payments(
    invoice_ids: Iterable[int],
) -> list[tuple[LightningInvoice, NwcPayment | None]]:
    """Lock invoices, then the attempts to pay them, each in the order of their keys."""
    rows = LightningInvoice.objects.select_for_update().filter(pk__in=invoice_ids)
    invoices = list(rows.order_by("pk"))
    payments = _lock_payments(invoice.pk for invoice in invoices)
    return [(invoice, payments.get(invoice.pk)) for invoice in invoices]


def _lock_payments(invoice_ids: Iterable[int]) -> dict[int, NwcPayment]:
    """Lock attempts; return them by invoice, with the tenants whose errors they set."""
    payments = NwcPayment.objects.select_for_update(of=("self",)).order_by("pk")
    rows = payments.select_related("tenant").filter(invoice__in=invoice_ids)
    return {payment.invoice_id: payment for payment in rows}


def settle(
    invoice: LightningInvoice,
    payment: NwcPayment | None,
    *,
    settled_at: datetime,
    received_msat: int,
    preimage: Secret | str,
) -> None:
    """Record that a locked invoice was paid, and by the locked attempt if any."""
    was, now = invoice.state, timezone.now()
    invoice.state = State.SETTLED
    invoice.settled_at = settled_at
    invoice.received_msat = received_msat
    invoice.preimage = preimage
    _clear_failures(invoice)
    if payment is not None:
        # Before the saves: their receivers lock the collection, after the tenant.
        clear_wallet_error(payment)
        end_attempt(payment, NwcPayment.State.PAID, now)
    invoice.save()
    logger.info(
        "lightning_settled",
        payment_hash=invoice.payment_hash,
        stripe_invoice=invoice.stripe_invoice_id,
        was=was,
    )


def mark_dead(
    invoice: LightningInvoice, payment: NwcPayment | None, now: datetime
) -> None:
    """Record that a locked invoice is unpaid for good, and end its attempt."""
    invoice.state = State.DEAD
    _clear_failures(invoice)
    invoice.save()
    if payment is not None and payment.state == NwcPayment.State.PENDING:
        failed, refused = NwcPayment.State.FAILED, NwcPayment.State.REFUSED
        end_attempt(payment, refused if payment.refused_at else failed, now)
    logger.info("lightning_dead", payment_hash=invoice.payment_hash)


def end_attempt(payment: NwcPayment, state: NwcPayment.State, now: datetime) -> None:
    """End a locked attempt. Only its wallet had the invoice, so it made any payment."""
    if payment.state != NwcPayment.State.PENDING:
        logger.error("ended_payment_settled", payment=payment.pk, was=payment.state)
    payment.state = state
    payment.resolved_at = now
    payment.enqueued_at = None
    payment.nwc_url = ""
    payment.save(update_fields=["state", "resolved_at", "enqueued_at", "nwc_url"])


def expire(invoice: LightningInvoice) -> None:
    """Close an invoice for new payers; it stays watched."""
    invoice.state = State.EXPIRED
    invoice.save(update_fields=["state"])


def _clear_failures(invoice: LightningInvoice) -> None:
    invoice.enqueued_at = None
    invoice.contradicted_at = None
    for column, value in NO_FAILURE.items():
        setattr(invoice, column, value)
