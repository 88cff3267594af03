"""Decides what our wallet's answer means for an invoice and the attempt to pay it.

Our wallet's answer decides, at its time. Where it stays silent or contradicts the
payer's wallet (ADR 26), the payer's proof decides if payer and receiver are certainly
different nodes; otherwise a person does.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from caravel.core.alerts import alert_support
from caravel.core.db.work_items import isolated
from lightning.clients.bolt11 import decode
from lightning.clients.nwc_replies import Lookup, Status
from lightning.exceptions import (
    InvalidBolt11,
    WalletBusy,
)
from lightning.models import LightningInvoice, NwcPayment
from lightning.services.endings import (
    end_attempt,
    lock_all_with_payments,
    lock_with_payment,
    mark_dead,
    settle,
)
from lightning.services.polls import NO_ANSWER_ERRORS, Answer, keep_due, reschedule
from lightning.services.wallet_texts import meaning
from lightning.services.wallets import set_wallet_error

logger = structlog.get_logger(__name__)

State = LightningInvoice.State
#: How long our wallet may answer with errors past `final_at` before a person is asked,
#: or be silent before support is alerted.
ERROR_TIMEOUT = timedelta(hours=1)
#: A reported amount beyond this multiple is an error of the wallet, not an overpayment.
_MAX_OVERPAYMENT = 2


def apply_answers(answers: Mapping[int, Answer], asked_at: datetime) -> None:
    """Settle, end or reschedule invoices, as our wallet's answers say.

    The paid ones are settled in one transaction; if that fails, each in its own.
    """
    paid = {key: answer for key, answer in answers.items() if _says_paid(answer)}
    try:
        settled = _settle_together(paid) if len(paid) > 1 else set()
    except Exception:  # of any kind, since one must not hold up the others
        logger.warning("settled_one_by_one", invoices=[*paid], exc_info=True)
        settled = set()
    for invoice_id in answers.keys() - settled:
        with isolated(invoice=invoice_id):
            apply_answer(invoice_id, answers[invoice_id], asked_at)


def _settle_together(paid: Mapping[int, Answer]) -> set[int]:
    """Settle paid invoices, one of each tenant; return their keys."""
    with transaction.atomic():
        locked = lock_all_with_payments(paid)
        by_tenant = {
            invoice.tenant_id: (invoice, payment) for invoice, payment in locked
        }
        # In this order: no two transactions wait for each other's tenants.
        for _, (invoice, payment) in sorted(by_tenant.items()):
            answer = paid[invoice.pk]
            if invoice.state != State.SETTLED and isinstance(answer, Lookup):
                invoice.answer = answer.answer
                _settle_as_answered(invoice, payment, answer)
    return {invoice.pk for invoice, _ in by_tenant.values()}


def apply_answer(invoice_id: int, answer: Answer, asked_at: datetime) -> None:
    """Settle, end or reschedule an invoice, as our wallet's answer says."""
    with transaction.atomic():
        invoice, payment = lock_with_payment(invoice_id)
        if invoice.state == State.SETTLED:
            return
        if isinstance(answer, WalletBusy):
            keep_due(invoice, answer)
            return
        if isinstance(answer, Lookup):
            invoice.answer = answer.answer
        if isinstance(answer, Lookup) and _says_paid(answer):
            # Also when the invoice is dead: money that arrived always counts.
            _settle_as_answered(invoice, payment, answer)
        elif invoice.is_watched and asked_at >= invoice.final_at:
            _decide(invoice, payment, answer, asked_at)
        elif invoice.is_watched:
            _watch(invoice, payment, answer, asked_at)


def _watch(
    invoice: LightningInvoice,
    payment: NwcPayment | None,
    answer: Answer,
    asked_at: datetime,
) -> None:
    """Go on watching an invoice; «not paid» ends an attempt that was refused."""
    refusal_final_at = payment.refusal_final_at if payment is not None else None
    if _says_unpaid(answer) and payment is not None:
        _confirm_refusal(payment, asked_at)
    reschedule(invoice, answer, asked_at, not_after=refusal_final_at)


def _confirm_refusal(payment: NwcPayment, asked_at: datetime) -> None:
    final_at, is_pending = payment.refusal_final_at, NwcPayment.State.PENDING
    if payment.state != is_pending or final_at is None or asked_at < final_at:
        return
    # Before the save: its receivers lock the collection, after the tenant.
    set_wallet_error(payment, f"Your wallet did not pay: {meaning(payment.code)}")
    end_attempt(payment, NwcPayment.State.REFUSED, asked_at)
    logger.info("payment_refused", payment=payment.pk, code=payment.code)


def _decide(
    invoice: LightningInvoice,
    payment: NwcPayment | None,
    answer: Answer,
    asked_at: datetime,
) -> None:
    """End an invoice past `final_at`, or leave it to a person."""
    if payment is not None and _is_proven(payment):
        if are_different_nodes(invoice, payment):
            _settle_as_proven(invoice, payment)
        else:
            _contradict(invoice, answer, asked_at)
    elif _says_unpaid(answer):
        invoice.answered_at = asked_at
        mark_dead(invoice, payment, asked_at)
    elif _is_answer(answer, invoice, asked_at):
        _contradict(invoice, answer, asked_at)
    else:
        reschedule(invoice, answer, asked_at)
        _alert_of_silence(invoice, asked_at)


def _alert_of_silence(invoice: LightningInvoice, asked_at: datetime) -> None:
    """Alert support to an outage that keeps invoices from being paid otherwise."""
    if asked_at < invoice.final_at + ERROR_TIMEOUT:
        return
    alert_support(
        "own_wallet_silent",
        "Our wallet does not answer about invoices that may have been paid. No other "
        "payment of them starts until it does, or someone decides on their pages.",
        wallet=invoice.wallet_pubkey,
    )


def _is_proven(payment: NwcPayment) -> bool:
    return payment.state == NwcPayment.State.PENDING and bool(payment.proven_at)


def are_different_nodes(invoice: LightningInvoice, payment: NwcPayment) -> bool:
    """Return whether payer and receiver are certainly different nodes.

    If they are one, its wallets know the preimage of an invoice that nobody has paid.
    """
    try:
        payee = decode(invoice.bolt11).payee
    except InvalidBolt11:
        return False
    is_other_node = payment.node_pubkey not in ("", payee)
    return is_other_node and payment.wallet_pubkey != invoice.wallet_pubkey


def _is_answer(answer: Answer, invoice: LightningInvoice, asked_at: datetime) -> bool:
    """Return whether our wallet has answered, but neither yes nor no.

    Errors count only if they last: an outage looks like one.
    """
    if isinstance(answer, Lookup):
        return True
    is_lasting = asked_at >= invoice.final_at + ERROR_TIMEOUT
    return is_lasting and not isinstance(answer, NO_ANSWER_ERRORS)


def _says_paid(answer: Answer) -> bool:
    return isinstance(answer, Lookup) and answer.status is Status.SETTLED


def _says_unpaid(answer: Answer) -> bool:
    return isinstance(answer, Lookup) and answer.status is Status.UNSETTLED


def _settle_as_answered(
    invoice: LightningInvoice, payment: NwcPayment | None, answer: Lookup
) -> None:
    now = timezone.now()
    invoice.answered_at = now
    settle(
        invoice,
        payment,
        settled_at=answer.settled_at or now,
        received_msat=_received_msat(invoice, answer),
        preimage=answer.preimage,
    )


def _received_msat(invoice: LightningInvoice, answer: Lookup) -> int:
    asked, received = invoice.amount_msat, answer.amount_msat or invoice.amount_msat
    if received < asked:
        # The receiving node deducted a fee; the payer has paid in full.
        logger.error("received_less", payment_hash=invoice.payment_hash)
    if received > _MAX_OVERPAYMENT * asked:
        alert_support(
            "implausible_amount",
            f"Our wallet reports {received} msat for an invoice of {asked} msat: "
            "booked as paid exactly. Compare with the wallet's own list of payments.",
            payment_hash=invoice.payment_hash,
            stripe_invoice=invoice.stripe_invoice_id,
        )
        return asked
    return received


def _settle_as_proven(invoice: LightningInvoice, payment: NwcPayment) -> None:
    """Settle by the preimage that the payer's wallet has returned."""
    settle(
        invoice,
        payment,
        settled_at=payment.proven_at or timezone.now(),
        received_msat=invoice.amount_msat,
        preimage=payment.preimage,
    )
    alert_support(
        "settled_by_proof",
        "A tenant's wallet has proven a payment with the preimage, but our own wallet "
        "never showed it. It is booked as paid: find out why our wallet does not.",
        payment_hash=invoice.payment_hash,
        stripe_invoice=invoice.stripe_invoice_id,
    )


def _contradict(invoice: LightningInvoice, answer: Answer, asked_at: datetime) -> None:
    """Leave an invoice to a person, and go on asking our wallet."""
    invoice.contradicted_at = invoice.contradicted_at or asked_at
    reschedule(invoice, answer, asked_at)
    is_live = LightningInvoice.objects.live().filter(pk=invoice.pk).exists()
    effect = (
        "Until then no other payment of its Stripe invoice starts."
        if is_live
        else "Its Stripe invoice does not wait for it: money that came is a credit."
    )
    alert_support(
        "payment_contradicted",
        "Nobody knows whether this Lightning invoice was paid: someone must decide it "
        f"on its page in the admin. {effect}",
        payment_hash=invoice.payment_hash,
        stripe_invoice=invoice.stripe_invoice_id,
    )
