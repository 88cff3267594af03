"""What paid an invoice, as far as is known here."""

from billing.models import CardAttempt, InvoiceCollection, Settlement
from lightning.models import NwcPayment

PaidBy = InvoiceCollection.PaidBy


def paid_by(collection: InvoiceCollection, *, amount_paid_cents: int) -> PaidBy:
    """Return what paid an invoice, so much of it with money, that is paid."""
    marked = collection.settlements.filter(state=Settlement.State.MARKED).first()
    if marked:
        return lightning_payer(marked.invoice_id)
    if collection.card_attempts.filter(state=CardAttempt.State.PAID).exists():
        return PaidBy.CARD
    return payer_elsewhere(amount_paid_cents)


def lightning_payer(lightning_invoice_id: int) -> PaidBy:
    """Return who paid a Lightning invoice: the tenant's wallet, or a person."""
    asked = NwcPayment.objects.filter(invoice=lightning_invoice_id).exists()
    return PaidBy.WALLET if asked else PaidBy.LIGHTNING


def payer_elsewhere(amount_paid_cents: int) -> PaidBy:
    """Return what paid an invoice that nothing of ours has paid."""
    return PaidBy.ELSEWHERE if amount_paid_cents > 0 else PaidBy.CREDIT
