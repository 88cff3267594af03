"""The payer of an invoice, from the payments recorded here."""

from django.utils import timezone

from billing.models import CardAttempt, InvoiceCollection, Settlement
from lightning.models import NwcPayment
from relays.models import Plan
from tenants.models import Tenant

PaidBy = InvoiceCollection.PaidBy


def paid_by(collection: InvoiceCollection, *, amount_paid_cents: int) -> PaidBy:
    """Return how a paid invoice was paid; `amount_paid_cents` excludes credit.

    Disputed money that was paid again counts as its last payment.
    """
    repaid = collection.settlements.filter(repaid_cents__gt=0).first()
    if repaid and collection.reversals.disputes().filter(repaid_cents__gt=0).exists():
        return lightning_payer(repaid.invoice_id)
    marked = collection.settlements.filter(state=Settlement.State.MARKED).first()
    if marked:
        return lightning_payer(marked.invoice_id)
    if collection.card_attempts.filter(state=CardAttempt.State.PAID).exists():
        return PaidBy.CARD
    return payer_elsewhere(amount_paid_cents)


def lightning_payer(lightning_invoice_id: int) -> PaidBy:
    """Return the payer of a Lightning invoice: the tenant's wallet, or a person.

    A bolt11 is given to a wallet or presented to a payer, never both.
    """
    attempts = NwcPayment.objects.filter(invoice=lightning_invoice_id)
    return PaidBy.WALLET if attempts.exists() else PaidBy.LIGHTNING


def payer_elsewhere(amount_paid_cents: int) -> PaidBy:
    """Return the payer of an invoice that no payment recorded here has paid."""
    return PaidBy.ELSEWHERE if amount_paid_cents > 0 else PaidBy.CREDIT


def was_bank_debited(invoice_id: str) -> bool:
    """Return whether the payer CARD is a bank account that we have debited."""
    paid = CardAttempt.objects.filter(state=CardAttempt.State.PAID)
    attempt = paid.filter(collection=invoice_id).first()
    return attempt is not None and attempt.is_bank_debit


def record_first_payment(*, tenant_id: str, amount_cents: int, currency: str) -> None:
    """Record that money has arrived from a tenant: its quotas are higher from now on.

    Less than a month of the cheapest plan does not count: whoever deletes a relay after
    a few minutes owes one cent. Not inside a transaction that holds an invoice, which
    is locked after its tenant.
    """
    plans = Plan.objects.paid().filter(currency=currency)
    if plans.filter(amount_cents__lte=amount_cents).exists():
        unpaid = Tenant.objects.filter(pk=tenant_id, first_paid_at=None)
        unpaid.update(first_paid_at=timezone.now())
