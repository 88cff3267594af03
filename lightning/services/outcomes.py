"""Decides what our wallet's answer means for an invoice and the attempt to pay it.

Our wallet's answer decides, at its time. Where it stays silent or contradicts the
payer's wallet (ADR 26), the payer's proof decides if payer and receiver are certainly
different nodes; otherwise a person does.
"""

from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from caravel.core.alerts import alert_support
from caravel.core.db.work_items import (
    NO_FAILURE,
    backoff,
    error_columns,
    failure_columns,
)
from lightning.clients.bolt11 import decode
from lightning.clients.nwc_replies import Lookup, Status
from lightning.exceptions import (
    InvalidBolt11,
    InvalidWalletReply,
    NoWalletReply,
    RequestNotSent,
    UnknownOwnWallet,
    WalletBusy,
    WalletError,
)
from lightning.models import LightningInvoice, NwcPayment
from lightning.services.endings import (
    end_attempt,
    expire,
    lock_with_payment,
    mark_dead,
    settle,
)
from lightning.services.wallets import set_wallet_error

logger = structlog.get_logger(__name__)

State = LightningInvoice.State
Answer = Lookup | WalletError | UnknownOwnWallet
NO_ANSWER_ERRORS = (NoWalletReply, RequestNotSent, WalletBusy, UnknownOwnWallet)
#: Pause before the first poll of an invoice, and between two while it is open.
OPEN_POLL_INTERVAL = timedelta(seconds=15)
_MAX_POLL_INTERVAL = timedelta(minutes=10)
#: The same once a person must decide: an answer may still come.
_CONTRADICTED_POLL_INTERVAL = timedelta(hours=1)
#: How long our wallet may answer with errors past `final_at` before a person is asked,
#: or be silent before support is alerted.
ERROR_TIMEOUT = timedelta(hours=1)
#: A reported amount beyond this multiple is an error of the wallet, not an overpayment.
_MAX_OVERPAYMENT = 2


def apply_answer(invoice_id: int, answer: Answer, asked_at: datetime) -> None:
    """Settle, end or reschedule an invoice, as our wallet's answer says."""
    with transaction.atomic():
        invoice, payment = lock_with_payment(invoice_id)
        if invoice.state == State.SETTLED:
            return
        if isinstance(answer, WalletBusy):
            _keep_due(invoice, answer)
            return
        if isinstance(answer, Lookup):
            invoice.answer = answer.answer
        if isinstance(answer, Lookup) and answer.status is Status.SETTLED:
            # Also when the invoice is dead: money that arrived always counts.
            _settle_as_answered(invoice, payment, answer)
        elif invoice.is_watched and asked_at >= invoice.final_at:
            _decide(invoice, payment, answer, asked_at)
        elif invoice.is_watched:
            _watch(invoice, payment, answer, asked_at)


def _keep_due(invoice: LightningInvoice, error: WalletBusy) -> None:
    """Leave an invoice to the next poll: its wallet has not failed."""
    columns = {**error_columns(error), "enqueued_at": None}
    LightningInvoice.objects.filter(pk=invoice.pk).update(**columns)


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
    _reschedule(invoice, answer, asked_at, not_after=refusal_final_at)


def _confirm_refusal(payment: NwcPayment, asked_at: datetime) -> None:
    final_at, is_pending = payment.refusal_final_at, NwcPayment.State.PENDING
    if payment.state != is_pending or final_at is None or asked_at < final_at:
        return
    # Before the save: its receivers lock the collection, after the tenant.
    set_wallet_error(payment, f"Your wallet did not pay: {payment.message}")
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
        _reschedule(invoice, answer, asked_at)
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
    _reschedule(invoice, answer, asked_at)
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


def _reschedule(
    invoice: LightningInvoice,
    answer: Answer,
    asked_at: datetime,
    *,
    not_after: datetime | None = None,
) -> None:
    """Keep watching an invoice, and record our wallet's answer or its error.

    The next poll is due at `not_after`, if that is ahead, or earlier.
    """
    if invoice.state == State.OPEN and asked_at >= invoice.expires_at:
        expire(invoice)
    error = _error_of(answer)
    if error is None:
        interval = _poll_interval(invoice, asked_at)
        columns: dict[str, object] = {**NO_FAILURE, "answered_at": asked_at}
    else:
        interval = min(backoff(invoice.failures + 1), _MAX_POLL_INTERVAL)
        columns = failure_columns(error, failures=invoice.failures, now=asked_at)
    if invoice.contradicted_at:
        interval = _CONTRADICTED_POLL_INTERVAL
    if not_after and not_after > asked_at:
        interval = min(interval, not_after - asked_at)
    LightningInvoice.objects.filter(pk=invoice.pk).update(
        **{
            **columns,
            "answer": invoice.answer,
            "contradicted_at": invoice.contradicted_at,
            "next_attempt_at": asked_at + interval,
            "enqueued_at": None,
        }
    )


def _error_of(answer: Answer) -> WalletError | UnknownOwnWallet | None:
    """Return the error that an answer is, or is recorded as; None for «not paid»."""
    if not isinstance(answer, Lookup):
        return answer
    if answer.status is Status.HELD:
        return WalletError("A payment is arriving; our wallet has not taken it yet.")
    if answer.status is Status.UNKNOWN:
        return InvalidWalletReply(
            f"Our wallet's answer decides nothing: {answer.answer}"
        )
    return None


def _poll_interval(invoice: LightningInvoice, now: datetime) -> timedelta:
    """Return the pause until the next poll: 15 s until expiry, then up to 10 min.

    It never reaches far past `final_at`, from which an answer is final.
    """
    if now < invoice.expires_at:
        return OPEN_POLL_INTERVAL
    pause = min(
        max(timedelta(minutes=1), (now - invoice.expires_at) / 6), _MAX_POLL_INTERVAL
    )
    return min(pause, max(invoice.final_at - now, OPEN_POLL_INTERVAL))
