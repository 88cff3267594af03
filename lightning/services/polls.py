"""Polls of our own wallets: when the next one is due, and the last one's answer."""

from datetime import datetime, timedelta

from caravel.core.db.work_items import (
    NO_FAILURE,
    backoff,
    error_columns,
    failure_columns,
)
from lightning.clients.nwc_replies import Lookup, Status
from lightning.exceptions import (
    InvalidWalletReply,
    NoWalletReply,
    RequestNotSent,
    UnknownOwnWallet,
    WalletBusy,
    WalletError,
)
from lightning.models import LightningInvoice
from lightning.services.endings import expire

State = LightningInvoice.State
#: The result of a poll for one invoice.
Answer = Lookup | WalletError | UnknownOwnWallet
#: Errors without any word of our wallet.
NO_ANSWER_ERRORS = (NoWalletReply, RequestNotSent, WalletBusy, UnknownOwnWallet)
#: Pause before the first poll of an invoice, and between two while it is open.
OPEN_POLL_INTERVAL = timedelta(seconds=15)
_MAX_POLL_INTERVAL = timedelta(minutes=10)
#: The same once a person must decide: an answer may still come.
_CONTRADICTED_POLL_INTERVAL = timedelta(hours=1)


def keep_due(invoice: LightningInvoice, error: WalletBusy) -> None:
    """Leave an invoice to the next poll: its wallet has not failed."""
    columns = {**error_columns(error), "enqueued_at": None}
    LightningInvoice.objects.filter(pk=invoice.pk).update(**columns)


def reschedule(
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
