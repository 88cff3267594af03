"""Records of attempts by tenants' wallets: the request, then the wallet's reply."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from caravel.core.db.encrypted_text import Secret
from caravel.core.db.work_items import NO_FAILURE, failure_columns, isolated
from caravel.core.exceptions import CaravelError
from lightning.clients.nwc import PreparedRequest, Wallet
from lightning.clients.nwc_replies import Info
from lightning.exceptions import (
    InvalidWalletReply,
    RequestNotSent,
    WalletError,
    WalletRefused,
)
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import endings
from lightning.services.wallet_texts import meaning
from lightning.services.wallets import set_wallet_error

logger = structlog.get_logger(__name__)

State = NwcPayment.State
#: Code of an attempt whose request never reached a relay.
NOT_SENT = "NOT_SENT"
#: Refusals before anything is sent: they are checked first. Others must be confirmed by
#: our own wallet, since nostr-wallet-connect-lnd answers INSUFFICIENT_BALANCE to any
#: error of its connection to the node, and other wallets may do the same.
_CHECKED_FIRST = frozenset(
    {
        "UNAUTHORIZED",
        "RESTRICTED",
        "NOT_IMPLEMENTED",
        "UNSUPPORTED_ENCRYPTION",
        "EXPIRED",
    }
)
# Django would write a CASE with a branch for each row, which takes it longer than the
# database takes to run it. Rows are locked by primary key: a settlement of several
# invoices that waits for one of them must not hold another that this waits for.
_MARK_SENT = """
    WITH locked AS (
        SELECT id FROM lightning_nwcpayment
        WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE
    )
    UPDATE lightning_nwcpayment AS payment
    SET request_event_id = request.id, sent_at = %s, enqueued_at = NULL
    FROM locked
    JOIN unnest(%s::bigint[], %s::text[]) AS request (payment_id, id)
        ON request.payment_id = locked.id
    WHERE payment.id = locked.id
        AND payment.state = 'pending' AND payment.request_event_id IS NULL
    RETURNING payment.id
"""
_RECORD_PROOFS = """
    WITH locked AS (
        SELECT id FROM lightning_nwcpayment
        WHERE id = ANY(%s::bigint[]) ORDER BY id FOR UPDATE
    )
    UPDATE lightning_nwcpayment AS payment
    SET preimage = proof.token, proven_at = %s, replied_at = %s, code = '', message = ''
    FROM locked
    JOIN unnest(%s::bigint[], %s::text[]) AS proof (payment_id, token)
        ON proof.payment_id = locked.id
    WHERE payment.id = locked.id AND payment.state = 'pending'
"""


@dataclass(frozen=True)
class Prepared:
    """An attempt with the request to its wallet."""

    payment: NwcPayment
    wallet: Wallet
    request: PreparedRequest

    @property
    def order(self) -> tuple[Wallet, PreparedRequest, str]:
        """The payment as `nwc.pay_each` takes it."""
        return self.wallet, self.request, self.payment.invoice.payment_hash


def mark_sent(prepared: Sequence[Prepared]) -> list[Prepared]:
    """Store the requests' ids before they are sent; return the requests to send.

    Another worker has stored, and sends, its own request for the other attempts.
    """
    if not prepared:
        return []
    keys, ids = zip(*((p.payment.pk, p.request.id) for p in prepared), strict=True)
    with connection.cursor() as cursor:
        cursor.execute(_MARK_SENT, [[*keys], timezone.now(), [*keys], [*ids]])
        marked = {key for (key,) in cursor.fetchall()}
    sent = [each for each in prepared if each.payment.pk in marked]
    for each in sent:
        each.payment.request_event_id = each.request.id
    return sent


def record(outcomes: Sequence[tuple[Prepared, str | WalletError]]) -> list[NwcPayment]:
    """Record preimages and errors; return the attempts that have not ended."""
    preimages = {p.payment.pk: out for p, out in outcomes if isinstance(out, str)}
    if preimages:
        _record_proofs(preimages)
    ended = set()
    for each, outcome in outcomes:
        with isolated(payment=each.payment.pk):
            if not isinstance(outcome, str) and _record_error(each.payment, outcome):
                ended.add(each.payment.pk)
    return [each.payment for each, _ in outcomes if each.payment.pk not in ended]


def store_node(payment: NwcPayment, info: Info | CaravelError) -> None:
    """Store the node that a tenant's wallet names, or the failure to name it."""
    if isinstance(info, Info) and not info.pubkey:
        info = InvalidWalletReply("The tenant's wallet does not name its node.")
    columns = (
        {**NO_FAILURE, "node_pubkey": info.pubkey, "enqueued_at": None}
        if isinstance(info, Info)
        else failure_columns(info, failures=payment.failures, now=timezone.now())
    )
    NwcPayment.objects.pending().filter(pk=payment.pk).update(**columns)


def close_as_refused(payment: NwcPayment, code: str, message: str) -> bool:
    """Close an attempt that spent nothing, and expire its invoice.

    Returns False if it has ended already, or another request was sent.
    """
    with transaction.atomic():
        invoice, locked = endings.lock_with_payment(payment.invoice_id)
        if locked is None or locked.state != State.PENDING:
            return False
        # Another worker may have sent a request that is still unanswered.
        if locked.request_event_id != payment.request_event_id:
            return False
        # Before the saves: their receivers lock the collection, after the tenant.
        set_wallet_error(locked, f"Your wallet did not pay: {meaning(code)}")
        locked.state = State.REFUSED
        locked.code, locked.message = code[:64], message[:240]
        locked.resolved_at = locked.replied_at = timezone.now()
        locked.enqueued_at = None
        locked.nwc_url = ""
        locked.save()
        if invoice.state == LightningInvoice.State.OPEN:
            endings.expire(invoice)
    logger.info("payment_refused", payment=payment.pk, code=code)
    return True


def _record_proofs(preimages: Mapping[int, str]) -> None:
    """Store preimages at once: nothing else may prove that the tenants have paid.

    If that fails, because a row is locked for long, each is stored by itself.
    """
    try:
        _store_preimages(preimages)
    except DatabaseError:
        logger.warning("proofs_one_by_one", payments=[*preimages], exc_info=True)
        for key, preimage in preimages.items():
            with isolated(payment=key):
                _store_preimages({key: preimage})


def _store_preimages(preimages: Mapping[int, str]) -> None:
    tokens = [Secret.seal(preimage).token for preimage in preimages.values()]
    now, keys = timezone.now(), [*preimages]
    with connection.cursor() as cursor:
        cursor.execute(_RECORD_PROOFS, [keys, now, now, keys, tokens])


def _record_error(payment: NwcPayment, error: WalletError) -> bool:
    """Record an error; return whether the attempt ended with nothing spent."""
    if isinstance(error, RequestNotSent):
        return close_as_refused(payment, NOT_SENT, error.message)
    if not isinstance(error, WalletRefused):
        _record_unknown(payment, error)
        return False
    if error.nwc_code in _CHECKED_FIRST:
        return close_as_refused(payment, error.nwc_code, error.message)
    _record_refusal(payment, error)
    return False


def _record_refusal(payment: NwcPayment, error: WalletRefused) -> None:
    """Record a refusal that our own wallet must confirm after a pause.

    The bolt11 is retired: nobody else may get it.
    """
    now = timezone.now()
    with transaction.atomic():
        invoice, locked = endings.lock_with_payment(payment.invoice_id)
        if locked is None or locked.state != State.PENDING:
            return
        locked.refused_at = locked.replied_at = now
        locked.code, locked.message = error.nwc_code[:64], error.message[:240]
        # By columns: no receiver may take it for the end of the attempt.
        NwcPayment.objects.filter(pk=locked.pk).update(
            refused_at=now, replied_at=now, code=locked.code, message=locked.message
        )
        LightningInvoice.objects.filter(pk=invoice.pk).update(
            next_attempt_at=locked.refusal_final_at, enqueued_at=None
        )
        if invoice.state == LightningInvoice.State.OPEN:
            endings.expire(invoice)
    payment.refused_at = now
    logger.info("payment_refused_for_now", payment=payment.pk, code=error.nwc_code)


def _record_unknown(payment: NwcPayment, error: WalletError) -> None:
    code = error.nwc_code or error.code
    columns = {"code": code[:64], "message": error.message[:240]}
    NwcPayment.objects.pending().filter(pk=payment.pk).update(
        replied_at=timezone.now() if error.nwc_code else None, **columns
    )
    set_wallet_error(payment, f"Your wallet may have paid, or not: {meaning(code)}")
    logger.warning("payment_unknown", payment=payment.pk, code=code)
