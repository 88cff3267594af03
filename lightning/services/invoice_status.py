"""Polls Caravel's own wallets for invoice status: the only source of truth.

An invoice is watched until the wallet that issued it reports it settled, or reports it
unpaid LIGHTNING_MARGIN after its expiry. Errors and timeouts decide nothing.
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from caravel.core.db.work_items import (
    NO_FAILURE,
    backoff,
    error_columns,
    failure_columns,
)
from lightning.clients.nwc_replies import Lookup, Status
from lightning.clients.pace import Pace, Share
from lightning.exceptions import (
    NoWalletReply,
    RequestNotSent,
    UnknownOwnWallet,
    WalletBusy,
    WalletError,
)
from lightning.models import LightningInvoice, LightningInvoiceQuerySet, NwcPayment
from lightning.services import own_wallets
from lightning.services.wallets import clear_wallet_error

logger = structlog.get_logger(__name__)

State = LightningInvoice.State
#: Pause before the first poll of an invoice, and between two while it is open.
OPEN_POLL_INTERVAL = timedelta(seconds=15)
_MAX_POLL_INTERVAL = timedelta(minutes=10)
#: Invoices in a batch: half by priority, half that wait longest.
_BATCH = 100
_PRIORITY_ORDER = (F("shown_at").desc(nulls_last=True), "-pk")
_NO_ANSWER_ERRORS = (NoWalletReply, RequestNotSent, WalletBusy, UnknownOwnWallet)
#: After this a task leaves further batches to the next task.
_TASK_BUDGET_SECONDS = 20.0

_Answer = Lookup | WalletError | UnknownOwnWallet


def wallets_to_poll() -> list[str]:
    """Return the public keys of Caravel's own wallets that have invoices to poll."""
    due = LightningInvoice.objects.watched().due(timezone.now())
    return list(due.order_by().values_list("wallet_pubkey", flat=True).distinct())


def poll_wallet(*, pubkey: str) -> int:
    """Poll an own wallet for all due invoices; returns the number of answers.

    Presented invoices come first, then the newest, but half of each batch are those
    that have waited longest. Stops when the wallet does not answer, or has had as many
    requests as it takes: the other invoices stay due.
    """
    answered, started = 0, time.monotonic()
    pace = Pace(pubkey, Share.POLL)
    while time.monotonic() - started < _TASK_BUDGET_SECONDS:
        size = pace.allowed(_BATCH)
        batch = _claim_batch(pubkey, size)
        answers = _poll_batch(pubkey, batch)
        answered += answers
        if not answers or len(batch) < size:
            break
    return answered


def check_invoice(
    *,
    invoice_id: int,
    must_answer: bool = False,
    timeout: float | None = None,
    share: Share = Share.BACKGROUND,
) -> LightningInvoice:
    """Poll for one invoice and return its updated row.

    With `must_answer`, raises the WalletError or UnknownOwnWallet; otherwise a failure
    is only recorded. `timeout` is in seconds.
    """
    invoice = LightningInvoice.objects.get(pk=invoice_id)
    if invoice.state == State.SETTLED:
        return invoice
    asked_at = timezone.now()
    hashes = [invoice.payment_hash]
    (answer,) = _look_up(invoice.wallet_pubkey, hashes, share, timeout)
    _apply_answer(invoice.pk, answer, asked_at)
    if must_answer and isinstance(answer, Exception):
        raise answer
    invoice.refresh_from_db()
    return invoice


def check_payment_hashes(*, payment_hashes: Sequence[str]) -> None:
    """Poll for invoices that a notification reported paid; ignore unknown hashes."""
    notified = LightningInvoice.objects.filter(payment_hash__in=payment_hashes)
    by_wallet: dict[str, list[int]] = {}
    for invoice in notified.exclude(state=State.SETTLED).only("wallet_pubkey"):
        by_wallet.setdefault(invoice.wallet_pubkey, []).append(invoice.pk)
    for pubkey, invoice_ids in by_wallet.items():
        poll_invoices(wallet_pubkey=pubkey, invoice_ids=invoice_ids, share=Share.PERSON)


def poll_invoices(
    *,
    wallet_pubkey: str,
    invoice_ids: Sequence[int],
    share: Share = Share.BACKGROUND,
) -> int:
    """Poll a wallet for several of its invoices; returns the number of answers.

    Settled invoices are skipped.
    """
    rows = LightningInvoice.objects.filter(pk__in=invoice_ids)
    unsettled = rows.exclude(state=State.SETTLED)
    hashes = dict(unsettled.values_list("pk", "payment_hash"))
    if not hashes:
        return 0
    asked_at = timezone.now()
    answers = _look_up(wallet_pubkey, list(hashes.values()), share)
    for invoice_id, answer in zip(hashes, answers, strict=True):
        _apply_answer(invoice_id, answer, asked_at)
    return sum(not isinstance(answer, _NO_ANSWER_ERRORS) for answer in answers)


def expire(invoice: LightningInvoice) -> None:
    """Close an invoice for new payers; it stays watched."""
    invoice.state = State.EXPIRED
    invoice.save(update_fields=["state"])


def _claim_batch(pubkey: str, size: int = _BATCH) -> list[int]:
    now = timezone.now()
    rows = LightningInvoice.objects.watched().filter(wallet_pubkey=pubkey)
    first = rows.claim(now=now, limit=size // 2, order=_PRIORITY_ORDER)
    return first + rows.claim(now=now, limit=size - size // 2)


def _poll_batch(pubkey: str, batch: Sequence[int]) -> int:
    """Poll for a claimed batch; returns the number of answers."""
    unanswered = _unanswered().filter(pk__in=batch).count()
    answers = poll_invoices(wallet_pubkey=pubkey, invoice_ids=batch, share=Share.POLL)
    # Only a drop shows that the wallet is back: one that never answers for some
    # invoices has answered for the others all the time.
    if _unanswered().filter(pk__in=batch).count() < unanswered:
        _unanswered().filter(wallet_pubkey=pubkey).update(
            next_attempt_at=timezone.now()
        )
    return answers


def _unanswered() -> LightningInvoiceQuerySet:
    """Return the watched invoices whose wallet did not answer the last poll."""
    codes = [error.code for error in _NO_ANSWER_ERRORS if error is not WalletBusy]
    return LightningInvoice.objects.watched().filter(last_error_code__in=codes)


def _look_up(
    wallet_pubkey: str,
    payment_hashes: list[str],
    share: Share,
    timeout: float | None = None,
) -> list[_Answer]:
    try:
        wallet = own_wallets.wallet_of(wallet_pubkey, share)
        answers = wallet.lookup_invoices(payment_hashes, timeout=timeout)
    except (WalletError, UnknownOwnWallet) as exc:
        return [exc for _ in payment_hashes]
    return [answers[payment_hash] for payment_hash in payment_hashes]


def _apply_answer(invoice_id: int, answer: _Answer, asked_at: datetime) -> None:
    """Settle, end or reschedule an invoice, as the wallet's answer says."""
    with transaction.atomic():
        invoice = LightningInvoice.objects.select_for_update().get(pk=invoice_id)
        if invoice.state == State.SETTLED:
            return
        match answer:
            case Lookup(status=Status.SETTLED):
                # Also when the invoice is dead: money that arrived always counts.
                _settle(invoice, answer)
            case _ if not invoice.is_watched:
                return
            case Lookup(status=Status.UNSETTLED) if asked_at >= invoice.final_at:
                _mark_dead(invoice, asked_at)
            case Lookup(status=Status.UNSETTLED):
                _reschedule(invoice, asked_at)
            case Lookup():
                message = "A payment is arriving; our wallet has not taken it yet."
                _reschedule(invoice, asked_at, error=WalletError(message))
            case WalletBusy():
                _keep_due(invoice, answer)
            case error:
                _reschedule(invoice, asked_at, error=error)


def _reschedule(
    invoice: LightningInvoice,
    asked_at: datetime,
    *,
    error: WalletError | UnknownOwnWallet | None = None,
) -> None:
    """Keep watching an invoice; without an error the wallet has said «not paid»."""
    if invoice.state == State.OPEN and asked_at >= invoice.expires_at:
        expire(invoice)
    if error is None:
        columns = {
            **NO_FAILURE,
            "answered_at": asked_at,
            "next_attempt_at": asked_at + _poll_interval(invoice, asked_at),
            "enqueued_at": None,
        }
    else:
        columns = failure_columns(error, failures=invoice.failures, now=asked_at)
        pause = min(backoff(invoice.failures + 1), _MAX_POLL_INTERVAL)
        columns["next_attempt_at"] = asked_at + pause
    LightningInvoice.objects.filter(pk=invoice.pk).update(**columns)


def _keep_due(invoice: LightningInvoice, error: WalletBusy) -> None:
    """Leave an invoice to the next poll: its wallet has not failed."""
    columns = {**error_columns(error), "enqueued_at": None}
    LightningInvoice.objects.filter(pk=invoice.pk).update(**columns)


def _settle(invoice: LightningInvoice, answer: Lookup) -> None:
    now = timezone.now()
    previous_state = invoice.state
    invoice.state = State.SETTLED
    invoice.settled_at = answer.settled_at or now
    invoice.answered_at = now
    invoice.received_msat = answer.amount_msat or invoice.amount_msat
    if invoice.received_msat < invoice.amount_msat:
        # The receiving node deducted a fee; the payer has paid in full.
        logger.error("received_less", payment_hash=invoice.payment_hash)
    invoice.preimage = answer.preimage
    _clear_failures(invoice)
    payment = _lock_payment(invoice)
    if payment is not None:
        # Before the saves: their receivers lock the collection, after the tenant.
        clear_wallet_error(payment)
        _close_attempt(payment, NwcPayment.State.PAID, now)
    invoice.save()
    logger.info(
        "lightning_settled",
        payment_hash=invoice.payment_hash,
        stripe_invoice=invoice.stripe_invoice_id,
        was=previous_state,
    )


def _mark_dead(invoice: LightningInvoice, asked_at: datetime) -> None:
    invoice.state = State.DEAD
    invoice.answered_at = asked_at
    _clear_failures(invoice)
    invoice.save()
    payment = _lock_payment(invoice)
    if payment is not None and payment.state == NwcPayment.State.PENDING:
        _close_attempt(payment, NwcPayment.State.FAILED, asked_at)
    logger.info("lightning_dead", payment_hash=invoice.payment_hash)


def _lock_payment(invoice: LightningInvoice) -> NwcPayment | None:
    return NwcPayment.objects.select_for_update().filter(invoice=invoice).first()


def _close_attempt(payment: NwcPayment, state: NwcPayment.State, now: datetime) -> None:
    """Close an attempt. Only its wallet had the invoice, so it made any payment."""
    if payment.state != NwcPayment.State.PENDING:
        logger.error("ended_payment_settled", payment=payment.pk, was=payment.state)
    payment.state = state
    payment.resolved_at = now
    payment.nwc_url = ""
    payment.save(update_fields=["state", "resolved_at", "nwc_url"])


def _clear_failures(invoice: LightningInvoice) -> None:
    invoice.enqueued_at = None
    for column, value in NO_FAILURE.items():
        setattr(invoice, column, value)


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
