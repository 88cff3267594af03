"""Polls Caravel's own wallets for invoice status: the only source of truth.

An invoice is watched until the wallet that issued it reports it settled, or reports it
unpaid LIGHTNING_MARGIN after its expiry. Errors and timeouts decide nothing. What an
answer means for the invoice is decided in `outcomes`.
"""

import random
import time
from collections.abc import Sequence
from datetime import timedelta

import structlog
from django.db.models import F
from django.utils import timezone

from lightning.clients.nwc import Wallet
from lightning.clients.nwc_replies import Lookup, Status
from lightning.clients.pace import Pace, Share
from lightning.exceptions import UnknownOwnWallet, WalletBusy, WalletError
from lightning.models import (
    LightningInvoice,
    LightningInvoiceQuerySet,
    Resolution,
)
from lightning.services import own_wallets
from lightning.services.outcomes import ERROR_TIMEOUT, apply_answer, apply_answers
from lightning.services.polls import NO_ANSWER_ERRORS, Answer

logger = structlog.get_logger(__name__)

State = LightningInvoice.State
#: Invoices in a batch: half by priority, half that wait longest.
_BATCH = 100
_PRIORITY_ORDER = (F("shown_at").desc(nulls_last=True), "-pk")
#: Invoices of a batch that are searched in the wallet's list: that takes long.
_MAX_SEARCHES = 5
#: After this a task leaves further batches to the next task.
_TASK_BUDGET_SECONDS = 20.0
#: How long our wallet is asked about invoices that support has declared dead.
_DECIDED_WATCH = timedelta(days=30)


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
    (answer,) = _look_up(invoice.wallet_pubkey, [invoice], share, timeout)
    apply_answer(invoice.pk, answer, asked_at)
    if must_answer and isinstance(answer, Exception):
        raise answer
    invoice.refresh_from_db()
    return invoice


def check_payment_hashes(*, payment_hashes: Sequence[str]) -> None:
    """Poll for invoices that a notification reported paid; ignore unknown hashes."""
    notified = LightningInvoice.objects.filter(payment_hash__in=payment_hashes)
    _poll_by_wallet(notified.exclude(state=State.SETTLED), Share.PERSON)


def check_decided_invoices() -> int:
    """Poll for invoices that support has declared dead; returns the number of answers.

    A person may be wrong, and no notification repeats itself.
    """
    since = timezone.now() - _DECIDED_WATCH
    recent = Resolution.objects.filter(created_at__gt=since)
    dead = LightningInvoice.objects.filter(state=State.DEAD, resolutions__in=recent)
    return _poll_by_wallet(dead, Share.POLL)


def _poll_by_wallet(rows: LightningInvoiceQuerySet, share: Share) -> int:
    """Poll each wallet for its rows; returns the number of answers."""
    by_wallet: dict[str, list[int]] = {}
    for invoice in rows.only("wallet_pubkey"):
        by_wallet.setdefault(invoice.wallet_pubkey, []).append(invoice.pk)
    return sum(
        poll_invoices(wallet_pubkey=pubkey, invoice_ids=invoice_ids, share=share)
        for pubkey, invoice_ids in by_wallet.items()
    )


def poll_invoices(
    *,
    wallet_pubkey: str,
    invoice_ids: Sequence[int],
    share: Share = Share.BACKGROUND,
) -> int:
    """Poll a wallet for several of its invoices; returns the number of answers.

    Settled invoices are skipped, and count.
    """
    rows = LightningInvoice.objects.filter(pk__in=invoice_ids)
    unsettled = rows.exclude(state=State.SETTLED)
    invoices = list(unsettled.only("payment_hash", "issued_at", "expires_at"))
    settled = len(invoice_ids) - len(invoices)
    if not invoices:
        return settled
    asked_at = timezone.now()
    answers = _look_up(wallet_pubkey, invoices, share)
    keys = (invoice.pk for invoice in invoices)
    apply_answers(dict(zip(keys, answers, strict=True)), asked_at)
    answered = sum(not isinstance(answer, NO_ANSWER_ERRORS) for answer in answers)
    return settled + answered


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
        waiting = _unanswered().filter(wallet_pubkey=pubkey)
        waiting.update_free(next_attempt_at=timezone.now())
    return answers


def _unanswered() -> LightningInvoiceQuerySet:
    """Return the watched invoices whose wallet did not answer the last poll."""
    codes = [error.code for error in NO_ANSWER_ERRORS if error is not WalletBusy]
    return LightningInvoice.objects.watched().filter(last_error_code__in=codes)


def _look_up(
    wallet_pubkey: str,
    invoices: Sequence[LightningInvoice],
    share: Share,
    timeout: float | None = None,
) -> list[Answer]:
    hashes = [invoice.payment_hash for invoice in invoices]
    try:
        wallet = own_wallets.wallet_of(wallet_pubkey, share)
        found = wallet.lookup_invoices(hashes, timeout=timeout)
    except (WalletError, UnknownOwnWallet) as exc:
        return [exc for _ in invoices]
    answers: dict[str, Answer] = dict(found)
    if timeout is None:  # else somebody waits
        unclear = [i for i in invoices if _is_unclear(found[i.payment_hash])]
        # The polls of a busy hour use up their own share.
        share = Share.BACKGROUND if share is Share.POLL else share
        answers |= _search(own_wallets.wallet_of(wallet_pubkey, share), unclear)
    return [answers[payment_hash] for payment_hash in hashes]


def _is_unclear(answer: Answer) -> bool:
    """Return whether the wallet has answered, but neither yes nor no.

    One that issued an invoice and has tried to pay it, too, may return its payment.
    """
    return isinstance(answer, Lookup) and answer.status is Status.UNKNOWN


def _search(wallet: Wallet, unclear: Sequence[LightningInvoice]) -> dict[str, Answer]:
    """Search invoices in the wallet's list; returns what is clearer than before.

    A few at random, so that one that is never listed keeps no other from its turn.
    """
    clear: dict[str, Answer] = {}
    for invoice in random.sample(unclear, min(len(unclear), _MAX_SEARCHES)):
        payment_hash = invoice.payment_hash
        try:
            answer = wallet.find_incoming(payment_hash, issued_at=invoice.issued_at)
        except WalletBusy as exc:
            # Try again later, but not for ever: then a person decides.
            if timezone.now() < invoice.final_at + ERROR_TIMEOUT:
                clear[payment_hash] = exc
            continue
        except WalletError as exc:
            logger.info("not_listed", payment_hash=payment_hash, reason=exc.message)
            continue
        if answer.status is not Status.UNKNOWN:
            clear[payment_hash] = answer
    return clear
