"""Reading the refunds, disputes and early fraud warnings of a charge from Stripe."""

from collections.abc import Mapping
from dataclasses import dataclass

from billing.clients.stripe.client import (
    Charge,
    Dispute,
    FraudWarning,
    Refund,
    Stripe,
)
from billing.models import Reversal

#: State of each recorded reversal of a charge, by id.
Versions = Mapping[str, tuple[object, ...]]


@dataclass(frozen=True)
class ChargeReversals:
    """All refunds, disputes and warnings of a charge, as Stripe has them now.

    `invoice_id` is "" if the charge paid no invoice. `notes` is the credit note of
    each refund that is included in one. `since` is what was recorded before.
    """

    charge: Charge
    invoice_id: str
    refunds: tuple[Refund, ...]
    disputes: tuple[Dispute, ...]
    warnings: tuple[FraudWarning, ...]
    notes: Mapping[str, str]
    since: Versions


def read_reversals(stripe: Stripe, charge: Charge) -> ChargeReversals:
    """Return the refunds, disputes and early fraud warnings of a charge."""
    # Before the requests: what is recorded in between is newer than their answers.
    since = versions_of(charge.id)
    refunds = tuple(stripe.refunds.list(charge=charge.id))
    invoice_id = invoice_id_of(stripe, charge)
    return ChargeReversals(
        charge=charge,
        invoice_id=invoice_id,
        refunds=refunds,
        disputes=tuple(stripe.disputes.list(charge=charge.id)),
        warnings=tuple(stripe.fraud_warnings.list(charge=charge.id)),
        notes=_notes(stripe, invoice_id) if invoice_id and refunds else {},
        since=since,
    )


def versions_of(charge_id: str) -> Versions:
    """Return the recorded state of each reversal of a charge."""
    rows = Reversal.objects.filter(charge_id=charge_id)
    columns = rows.values_list("pk", "state", "amount_cents", "updated_at")
    return {pk: tuple(version) for pk, *version in columns}


def invoice_id_of(stripe: Stripe, charge: Charge) -> str:
    """Return the id of the invoice that a charge has paid, "" if none."""
    if known := Reversal.objects.filter(charge_id=charge.id).first():
        return known.collection_id
    return stripe.charges.get_invoice_id(charge.intent) if charge.intent else ""


def _notes(stripe: Stripe, invoice_id: str) -> dict[str, str]:
    return {
        refund: note.id
        for note in stripe.credit_notes.list(invoice=invoice_id)
        if note.status != "void"
        for refund in note.refunds
    }
