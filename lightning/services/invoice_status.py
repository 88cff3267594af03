"""Asking our wallets how each invoice ended; nothing else decides that.

Every invoice is watched until the wallet that issued it says that it is settled, or,
LIGHTNING_MARGIN after the expiry, that it is not. Errors and silence are no answer.
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from caravel.core.db.work_items import NO_FAILURE, backoff, failure_columns
from lightning.clients.nwc_replies import Lookup, Status
from lightning.exceptions import (
    NoWalletReply,
    RequestNotSent,
    UnknownOwnWallet,
    WalletError,
)
from lightning.models import LightningInvoice, LightningInvoiceQuerySet, NwcPayment
from lightning.services import own_wallets
from lightning.services.wallet_errors import clear_wallet_error

logger = structlog.get_logger(__name__)

State = LightningInvoice.State
#: When an invoice is first asked about.
FIRST_LOOK = timedelta(seconds=15)
_LONGEST_PAUSE = timedelta(minutes=10)
#: How many invoices are asked about at once: most by rank, the rest by waiting time.
_BY_RANK, _BY_TURN = 80, 20
_RANK = (F("shown_at").desc(nulls_last=True), "-pk")
_SILENCE = (NoWalletReply, RequestNotSent, UnknownOwnWallet)
#: Seconds after which a task leaves the rest to the next.
_TURN = 20.0


def wallets_to_poll() -> list[str]:
    """Return the public keys of our wallets that have invoices to be asked about."""
    due = LightningInvoice.objects.watched().due(timezone.now())
    return list(due.order_by().values_list("wallet_pubkey", flat=True).distinct())


def poll_wallet(*, pubkey: str) -> int:
    """Ask one of our wallets about what is due; returns how often it answered.

    What a person looks at comes first, then the newest, but each batch has room for
    those that have waited longest. It stops when the wallet does not answer.
    """
    answered, started = 0, time.monotonic()
    while time.monotonic() - started < _TURN:
        ids = _claim(pubkey)
        silent = _silent().filter(pk__in=ids).count()
        answers = poll_invoices(wallet_pubkey=pubkey, invoice_ids=ids)
        answered += answers
        if _silent().filter(pk__in=ids).count() < silent:
            _ask_the_others_soon(pubkey)
        if not answers or len(ids) < _BY_RANK:
            break
    return answered


def check_invoice(
    *, invoice_id: int, must_answer: bool = False, patience: float | None = None
) -> LightningInvoice:
    """Ask the wallet that issued an invoice, and return it as it is then.

    With `must_answer` it raises the WalletError or UnknownOwnWallet that kept us from
    knowing; else that is only recorded. `patience` is in seconds.
    """
    invoice = LightningInvoice.objects.get(pk=invoice_id)
    if invoice.state == State.SETTLED:
        return invoice
    asked_at = timezone.now()
    hashes = [invoice.payment_hash]
    (answer,) = _look_up(invoice.wallet_pubkey, hashes, patience)
    _record(invoice.pk, answer, asked_at)
    if must_answer and isinstance(answer, Exception):
        raise answer
    invoice.refresh_from_db()
    return invoice


def check_payment_hashes(*, payment_hashes: Sequence[str]) -> None:
    """Ask about invoices that are said to be paid; unknown hashes are ignored."""
    told = LightningInvoice.objects.filter(payment_hash__in=payment_hashes)
    by_wallet: dict[str, list[int]] = {}
    for invoice in told.exclude(state=State.SETTLED).only("wallet_pubkey"):
        by_wallet.setdefault(invoice.wallet_pubkey, []).append(invoice.pk)
    for pubkey, invoice_ids in by_wallet.items():
        poll_invoices(wallet_pubkey=pubkey, invoice_ids=invoice_ids)


def poll_invoices(*, wallet_pubkey: str, invoice_ids: Sequence[int]) -> int:
    """Ask a wallet about several of its invoices; returns how often it replied.

    What is known to be settled is not asked about.
    """
    rows = LightningInvoice.objects.filter(pk__in=invoice_ids)
    unsettled = rows.exclude(state=State.SETTLED)
    hashes = dict(unsettled.values_list("pk", "payment_hash"))
    if not hashes:
        return 0
    asked_at = timezone.now()
    answers = _look_up(wallet_pubkey, list(hashes.values()))
    for invoice_id, answer in zip(hashes, answers, strict=True):
        _record(invoice_id, answer, asked_at)
    return sum(not isinstance(answer, _SILENCE) for answer in answers)


def expire(invoice: LightningInvoice) -> None:
    """Offer an invoice no more; it is still watched."""
    invoice.state = State.EXPIRED
    invoice.save(update_fields=["state"])


def _claim(pubkey: str) -> list[int]:
    now = timezone.now()
    rows = LightningInvoice.objects.watched().filter(wallet_pubkey=pubkey)
    by_rank = rows.claim(now=now, limit=_BY_RANK, order=_RANK)
    return by_rank + rows.claim(now=now, limit=_BY_TURN)


def _look_up(
    wallet_pubkey: str, payment_hashes: list[str], patience: float | None = None
) -> list[Lookup | WalletError | UnknownOwnWallet]:
    try:
        wallet = own_wallets.wallet_of(wallet_pubkey)
        found = wallet.lookup_invoices(payment_hashes, timeout=patience)
    except (WalletError, UnknownOwnWallet) as exc:
        return [exc for _ in payment_hashes]
    return [found[payment_hash] for payment_hash in payment_hashes]


def _record(
    invoice_id: int, answer: Lookup | WalletError | UnknownOwnWallet, asked_at: datetime
) -> None:
    """Draw the consequences of an answer, or of there being none."""
    with transaction.atomic():
        invoice = LightningInvoice.objects.select_for_update().get(pk=invoice_id)
        if invoice.state == State.SETTLED:
            return
        answer = _checked(invoice, answer)
        if isinstance(answer, Lookup) and answer.status is Status.SETTLED:
            _settle(invoice, answer)
        elif invoice.is_watched:
            _go_on_watching(invoice, answer, asked_at)


def _checked(
    invoice: LightningInvoice, answer: Lookup | WalletError | UnknownOwnWallet
) -> Lookup | WalletError | UnknownOwnWallet:
    """Return the answer, or what is wrong with it."""
    if not isinstance(answer, Lookup):
        return answer
    if answer.status is Status.HELD:
        return WalletError("A payment is arriving; our wallet has not taken it yet.")
    return answer


def _go_on_watching(
    invoice: LightningInvoice,
    answer: Lookup | WalletError | UnknownOwnWallet,
    asked_at: datetime,
) -> None:
    if isinstance(answer, Lookup) and asked_at >= invoice.final_at:
        return _die(invoice, asked_at)
    if invoice.state == State.OPEN and asked_at >= invoice.expires_at:
        expire(invoice)
    if isinstance(answer, Lookup):
        columns = {
            **NO_FAILURE,
            "answered_at": asked_at,
            "next_attempt_at": asked_at + _pause(invoice, asked_at),
            "enqueued_at": None,
        }
    else:
        columns = failure_columns(answer, failures=invoice.failures, now=asked_at)
        pause = min(backoff(invoice.failures + 1), _LONGEST_PAUSE)
        columns["next_attempt_at"] = asked_at + pause
    LightningInvoice.objects.filter(pk=invoice.pk).update(**columns)
    return None


def _settle(invoice: LightningInvoice, answer: Lookup) -> None:
    now = timezone.now()
    was = invoice.state
    invoice.state = State.SETTLED
    invoice.settled_at = answer.settled_at or now
    invoice.answered_at = now
    invoice.received_msat = answer.amount_msat or invoice.amount_msat
    if invoice.received_msat < invoice.amount_msat:
        # A receiver's fee was taken off; the payer has paid all the same.
        logger.error("received_less", payment_hash=invoice.payment_hash)
    invoice.preimage = answer.preimage
    _clear(invoice)
    payment = _payment_of(invoice)
    if payment is not None:
        # Before the saves: their receivers lock what comes after the tenant.
        clear_wallet_error(payment)
        _end(payment, NwcPayment.State.PAID, now)
    invoice.save()
    logger.info(
        "lightning_settled",
        payment_hash=invoice.payment_hash,
        stripe_invoice=invoice.stripe_invoice_id,
        was=was,
    )


def _die(invoice: LightningInvoice, asked_at: datetime) -> None:
    invoice.state = State.DEAD
    invoice.answered_at = asked_at
    _clear(invoice)
    invoice.save()
    payment = _payment_of(invoice)
    if payment is not None and payment.state == NwcPayment.State.PENDING:
        _end(payment, NwcPayment.State.FAILED, asked_at)
    logger.info("lightning_dead", payment_hash=invoice.payment_hash)


def _payment_of(invoice: LightningInvoice) -> NwcPayment | None:
    return NwcPayment.objects.select_for_update().filter(invoice=invoice).first()


def _end(payment: NwcPayment, state: NwcPayment.State, now: datetime) -> None:
    """End an attempt; only its own wallet ever had the invoice, so money is its."""
    if payment.state != NwcPayment.State.PENDING:
        logger.error("ended_payment_settled", payment=payment.pk, was=payment.state)
    payment.state = state
    payment.resolved_at = now
    payment.nwc_url = ""
    payment.save(update_fields=["state", "resolved_at", "nwc_url"])


def _clear(invoice: LightningInvoice) -> None:
    invoice.enqueued_at = None
    for column, value in NO_FAILURE.items():
        setattr(invoice, column, value)


def _pause(invoice: LightningInvoice, now: datetime) -> timedelta:
    """Return when to ask again: often while it is offered, then ever more seldom.

    The moment from which an answer is final is not slept through.
    """
    if now < invoice.expires_at:
        return FIRST_LOOK
    pause = min(
        max(timedelta(minutes=1), (now - invoice.expires_at) / 6), _LONGEST_PAUSE
    )
    return min(pause, max(invoice.final_at - now, FIRST_LOOK))


def _ask_the_others_soon(pubkey: str) -> None:
    """A wallet that answers again is asked at once about all that it left open.

    One that is silent about some only has answered the others all the time.
    """
    _silent().filter(wallet_pubkey=pubkey).update(next_attempt_at=timezone.now())


def _silent() -> LightningInvoiceQuerySet:
    """Return the watched invoices that were last asked about in vain."""
    codes = [error.code for error in _SILENCE]
    return LightningInvoice.objects.watched().filter(last_error_code__in=codes)
