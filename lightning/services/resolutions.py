"""Decisions of a person about a Lightning invoice that no answer could end (ADR 26)."""

import re

import structlog
from django.db import transaction
from django.utils import timezone

from caravel.core.redaction import redact
from lightning.clients.nwc_replies import is_preimage_of
from lightning.exceptions import NotResolvable
from lightning.models import LightningInvoice, NwcPayment, Resolution
from lightning.services import endings
from tenants.models import Activity
from tenants.services.activities import record_activity

logger = structlog.get_logger(__name__)

State = LightningInvoice.State
Outcome = Resolution.Outcome
_HASH = re.compile(r"[0-9a-fA-F]{64}")


def resolve_invoice(
    *,
    invoice_id: int,
    outcome: Resolution.Outcome,
    reason: str,
    evidence: str,
    actor: str,
) -> Resolution:
    """End a Lightning invoice and its attempt as a person has decided, and log it.

    Raises NotResolvable if it is settled, or dead and to be dead again; if it may still
    be paid and is to be dead; and without reason or evidence.
    """
    if not reason.strip() or not evidence.strip():
        raise NotResolvable("A decision needs a reason and evidence.")
    with transaction.atomic():
        invoice, payment = endings.lock_with_payment(invoice_id)
        _require_resolvable(invoice, outcome)
        was = invoice.state
        resolution: Resolution = Resolution.objects.create(
            invoice=invoice,
            outcome=outcome,
            reason=_redact(reason, invoice),
            evidence=_redact(evidence, invoice),
            actor=actor,
            receiver_answer=receiver_answer(invoice),
            payer_answer=payer_answer(payment),
        )
        _end(invoice, payment, outcome)
        _record(invoice, was, outcome)
    logger.warning(
        "invoice_resolved",
        payment_hash=invoice.payment_hash,
        outcome=outcome,
        actor=actor,
    )
    return resolution


def receiver_answer(invoice: LightningInvoice) -> str:
    """Return our wallet's answer about an invoice, in one line.

    A later error comes first: the answer is then of another time.
    """
    answer = invoice.answer or "no answer"
    if not invoice.last_error or answer in invoice.last_error:
        return answer[:240]
    return f"{invoice.last_error[:100]} Last answer: {answer}"[:240]


def payer_answer(payment: NwcPayment | None) -> str:
    """Return the answer of the tenant's wallet about its payment, in one line."""
    if payment is None:
        return "presented to a person: no wallet was asked"
    if payment.proven_at:
        node = payment.node_pubkey or "unknown"
        return f"preimage returned at {payment.proven_at:%F %T} UTC, node {node}"
    if payment.code:
        return f"{payment.code}: {payment.message}"[:240]
    return "no answer" if payment.request_event_id else "not asked"


def _redact(text: str, invoice: LightningInvoice) -> str:
    """Return a person's text without secrets; the preimage is a likely one."""

    def mask(match: re.Match[str]) -> str:
        is_secret = is_preimage_of(invoice.payment_hash, match[0].lower())
        return "[redacted]" if is_secret else match[0]

    return _HASH.sub(mask, redact(text.strip()))


def _require_resolvable(invoice: LightningInvoice, outcome: Resolution.Outcome) -> None:
    if invoice.state == State.SETTLED:
        raise NotResolvable("It is settled already.")
    if outcome == Outcome.SETTLED:
        return
    if invoice.state == State.DEAD:
        raise NotResolvable("It is dead already.")
    if timezone.now() < invoice.final_at:
        raise NotResolvable(
            f"It may still be paid until {invoice.final_at:%-d %B %Y, %H:%M} UTC."
        )


def _end(
    invoice: LightningInvoice,
    payment: NwcPayment | None,
    outcome: Resolution.Outcome,
) -> None:
    now = timezone.now()
    if outcome == Outcome.DEAD:
        endings.mark_dead(invoice, payment, now)
        return
    endings.settle(
        invoice,
        payment,
        settled_at=(payment and payment.proven_at) or now,
        received_msat=invoice.amount_msat,
        preimage=payment.preimage if payment else "",
    )


def _record(invoice: LightningInvoice, was: str, outcome: Resolution.Outcome) -> None:
    """Log the decision for the tenant, too; reason and actor are ours to see."""
    record_activity(
        tenant_id=invoice.tenant_id,
        type=Activity.Type.RESOLVE_INVOICE,
        subject_type="lightning_invoice",
        subject_id=invoice.payment_hash,
        snapshot={
            "stripe_invoice": invoice.stripe_invoice_id,
            "before": was,
            "after": outcome,
            "by": "support",
        },
    )
