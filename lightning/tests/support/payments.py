"""Payments as billing starts them, without its checks of the Stripe invoice."""

from django.db import transaction

from lightning.exceptions import PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoices, payments
from lightning.services.invoices import PaymentRequest


def start_payment(request: PaymentRequest) -> NwcPayment:
    """Start an attempt to have the tenant's wallet pay."""
    issued = payments.issue_for_wallet(payment_request=request)
    with transaction.atomic():
        payments.lock_for_wallet(payment_request=request)
        return payments.create_payment(issued)


def get_or_issue_invoice(request: PaymentRequest) -> LightningInvoice:
    """Return the invoice that a payer sees, issued if there is none."""
    if current := invoices.current_invoice(payment_request=request):
        return current
    issued = invoices.issue_for_payer(payment_request=request)
    try:
        with transaction.atomic():
            if current := invoices.lock_for_payer(payment_request=request):
                return current
            invoices.save_as_presented(issued)
            return issued
    except PaymentInProgress:
        if current := invoices.current_invoice(payment_request=request):
            return current
        raise


def run_payment(*, payment_id: int) -> NwcPayment:
    """Run one attempt, as its task does; return its row."""
    payments.run_payments(payment_ids=[payment_id])
    rows = NwcPayment.objects.select_related("invoice")
    payment: NwcPayment = rows.get(pk=payment_id)
    return payment
