"""Proofs that our own wallets can tell an unpaid invoice from a paid one (ADR 25).

A wallet issues an invoice that nobody pays. It has to report it unpaid at once, and
again after its expiry: that is when wallets go wrong.
"""

from datetime import datetime, timedelta

import structlog
from django.utils import timezone

from caravel.core.alerts import alert_support
from lightning.clients.clock import CLOCK_TOLERANCE
from lightning.clients.nwc import Wallet
from lightning.clients.nwc_replies import Lookup, Status
from lightning.exceptions import (
    InvalidBolt11,
    InvoiceMismatch,
    WalletBusy,
    WalletError,
)
from lightning.models import WalletProof
from lightning.services import own_wallets

logger = structlog.get_logger(__name__)

State = WalletProof.State
_AMOUNT_MSAT = 21_000
_EXPIRY = timedelta(seconds=60)
#: The time from the expiry to the second answer; the wallet's clock may be behind.
_PAUSE = CLOCK_TOLERANCE + timedelta(seconds=60)
#: The same for wallets without `state`: LNbits gives up expired invoices every half an
#: hour, and only then sets `settled_at`.
#: https://github.com/lnbits/lnbits/blob/main/lnbits/tasks.py
_PAUSE_WITHOUT_STATE = timedelta(hours=1)
#: The time until the next try after an error, and after a proof that failed.
_RETRY_AFTER, _REPEAT_AFTER = timedelta(minutes=5), timedelta(days=1)


def due_wallets() -> list[str]:
    """Return the own wallets without a proof whose next step is due."""
    later = WalletProof.objects.filter(due_at__gt=timezone.now())
    waiting = set(later.values_list("wallet_pubkey", flat=True))
    unproven = own_wallets.unproven_wallets()
    return [pubkey for pubkey in unproven if pubkey not in waiting]


def advance_proof(*, pubkey: str, must_start: bool = False) -> WalletProof:
    """Start the proof of an own wallet, or finish it once it is due.

    With `must_start`, one that failed or met an error starts again before its time.
    Does nothing for a wallet that is proven.
    """
    proof = WalletProof.objects.filter(wallet_pubkey=pubkey).first()
    if proof and pubkey not in own_wallets.unproven_wallets():
        return proof
    under_way = proof is not None and _is_under_way(proof)
    if proof and proof.due_at > timezone.now() and (under_way or not must_start):
        return proof
    wallet = own_wallets.wallet_of(pubkey)
    try:
        return _finish(wallet, proof) if proof and under_way else _start(wallet)
    except WalletBusy as exc:
        return _postpone(pubkey, exc.message)
    except (WalletError, InvoiceMismatch, InvalidBolt11) as exc:
        _alert(pubkey, exc.message)
        # An error or silence decides nothing; a wrong invoice does.
        state = State.PENDING if isinstance(exc, WalletError) else State.FAILED
        return _postpone(pubkey, exc.message, state=state)


def _is_under_way(proof: WalletProof) -> bool:
    """Return whether there is an invoice to ask about; one of yesterday is too old."""
    is_recent = timezone.now() - proof.started_at < _REPEAT_AFTER
    return proof.state == State.PENDING and bool(proof.payment_hash) and is_recent


def _start(wallet: Wallet) -> WalletProof:
    """Issue the invoice and look it up for the first time."""
    started_at = timezone.now()
    invoice = own_wallets.make_invoice(
        wallet,
        amount_msat=_AMOUNT_MSAT,
        description="A test of this wallet. Do not pay it.",
        expiry=int(_EXPIRY.total_seconds()),
    )
    lookup = wallet.lookup_invoice(invoice.payment_hash)
    proof, _ = WalletProof.objects.update_or_create(
        wallet_pubkey=wallet.uri.pubkey,
        defaults={
            "state": State.PENDING,
            "payment_hash": invoice.payment_hash,
            "network": invoice.network,
            "started_at": started_at,
            "expires_at": invoice.expires_at,
            "answer_before": lookup.answer,
            "answer_after": "",
            "due_at": _second_answer_at(started_at, lookup),
            "reason": "",
            "ended_at": None,
        },
    )
    return proof if _is_no(lookup) else _end(proof, lookup)


def _second_answer_at(started_at: datetime, lookup: Lookup) -> datetime:
    pause = _PAUSE if lookup.has_state else _PAUSE_WITHOUT_STATE
    return started_at + _EXPIRY + pause


def _finish(wallet: Wallet, proof: WalletProof) -> WalletProof:
    """Look the expired invoice up: this decides."""
    lookup = wallet.lookup_invoice(proof.payment_hash)
    proof.answer_after = lookup.answer
    return _end(proof, lookup)


def _is_no(lookup: Lookup) -> bool:
    return lookup.status is Status.UNSETTLED


def _end(proof: WalletProof, lookup: Lookup) -> WalletProof:
    proof.ended_at = timezone.now()
    if _is_no(lookup):
        # Due: it does not count in production if it was made on a test network.
        proof.state, proof.reason, proof.due_at = State.PASSED, "", proof.ended_at
    else:
        proof.state, proof.reason = State.FAILED, _fault(lookup)
        proof.due_at = proof.ended_at + _REPEAT_AFTER
    # Only the proof of this invoice: a command may have started another meanwhile.
    same = WalletProof.objects.filter(pk=proof.pk, payment_hash=proof.payment_hash)
    fields = ("state", "reason", "ended_at", "due_at", "answer_after")
    same.update(**{name: getattr(proof, name) for name in fields})
    if proof.reason:
        _alert(proof.pk, proof.reason)
    logger.info("wallet_proof_ended", wallet=proof.pk, state=proof.state)
    return proof


def _fault(lookup: Lookup) -> str:
    if lookup.status is Status.SETTLED:
        return "It reports an invoice settled that nobody has paid."
    return "Its answer about an unpaid invoice cannot be read as a no."


def _postpone(
    pubkey: str, reason: str, *, state: WalletProof.State = State.PENDING
) -> WalletProof:
    """Record why the proof does not get on, and when it is tried again."""
    now = timezone.now()
    pause = _RETRY_AFTER if state == State.PENDING else _REPEAT_AFTER
    columns = {"state": state, "reason": reason[:240], "due_at": now + pause}
    proof, _ = WalletProof.objects.update_or_create(
        wallet_pubkey=pubkey,
        defaults=columns,
        create_defaults={**columns, "expires_at": now},
    )
    return proof


def _alert(pubkey: str, reason: str) -> None:
    message = f"Our wallet {pubkey} has not proven that it can be trusted: {reason}"
    alert_support("wallet_not_proven", message, wallet=pubkey)
