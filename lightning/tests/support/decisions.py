"""Decisions of support about Lightning invoices, with a reason and evidence."""

from lightning.models import LightningInvoice, Resolution
from lightning.services.resolutions import resolve_invoice
from sandbox.wallets import Wallets


def decide(
    invoice_id: int,
    outcome: Resolution.Outcome,
    *,
    reason: str = "Found in the history of our hub.",
    evidence: str = "Ticket 4711",
    actor: str = "ann",
) -> Resolution:
    """End an invoice as support does. Raises NotResolvable."""
    return resolve_invoice(
        invoice_id=invoice_id,
        outcome=outcome,
        reason=reason,
        evidence=evidence,
        actor=actor,
    )


def decide_by_ledger(wallets: Wallets, invoice: LightningInvoice) -> Resolution:
    """End an invoice by whether it was really paid. Raises NotResolvable."""
    is_paid = wallets.ledger.is_settled(invoice.payment_hash)
    outcome = Resolution.Outcome.SETTLED if is_paid else Resolution.Outcome.DEAD
    return decide(invoice.pk, outcome)
