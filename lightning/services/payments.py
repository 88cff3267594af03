"""Payments by tenants' wallets: one invoice, one request, one outcome per attempt."""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from caravel.core.db.work_items import NO_FAILURE, failure_columns
from caravel.core.exceptions import CaravelError
from lightning.clients.nwc import PreparedRequest, Wallet
from lightning.clients.nwc_uri import NwcUri, parse_nwc_url
from lightning.exceptions import (
    InvalidWalletReply,
    NoWallet,
    PaymentInProgress,
    RequestNotSent,
    WalletError,
    WalletRefused,
)
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import endings, invoice_status, invoices
from lightning.services.invoices import PaymentRequest
from lightning.services.live_payments import live_payment
from lightning.services.wallet_texts import meaning
from lightning.services.wallets import set_wallet_error
from tenants.models import Tenant

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
#: An invoice that expires sooner than this is not sent to a wallet.
MIN_REMAINING = timedelta(seconds=60)


def issue_for_wallet(*, payment_request: PaymentRequest) -> LightningInvoice:
    """Issue an invoice for the tenant's wallet and return it unsaved.

    Follow it with `lock_for_wallet` and `create_payment` in one transaction. Raises the
    errors of `lock_for_wallet`, RateUnavailable, InvoiceMismatch, or a WalletError of
    our own wallet.
    """
    with transaction.atomic():
        lock_for_wallet(payment_request=payment_request)
    return invoices.issue_invoice(payment_request=payment_request)


def lock_for_wallet(*, payment_request: PaymentRequest) -> None:
    """Lock the Lightning invoices of a Stripe invoice, before the collection's lock.

    Raises NoWallet, AlreadySettled, or PaymentInProgress while one of them is live.
    """
    _connected_wallet(payment_request.tenant_id)
    rows = invoices.lock_invoices(payment_request.stripe_invoice_id)
    invoices.require_unsettled(rows, payment_request)
    if live := live_payment(payment_request.stripe_invoice_id):
        raise PaymentInProgress(live.reason, until=live.until)


def create_payment(invoice: LightningInvoice) -> NwcPayment:
    """Save an issued invoice and the attempt to have the tenant's wallet pay it.

    Call it in the transaction of `lock_for_wallet`. Saving the attempt makes a receiver
    enqueue it. Raises NoWallet, or PaymentInProgress if another invoice is open.
    """
    # Issuing takes seconds: the tenant may have another wallet by now, or none.
    tenant, uri = _connected_wallet(invoice.tenant_id)
    invoices.save_as_open(invoice)
    payment: NwcPayment = NwcPayment.objects.create(
        invoice=invoice,
        tenant=tenant,
        stripe_invoice_id=invoice.stripe_invoice_id,
        nwc_url=tenant.nwc_url,
        wallet_pubkey=uri.pubkey,
        client_pubkey=uri.client_pubkey,
        enqueued_at=timezone.now(),
    )
    return payment


def run_payment(*, payment_id: int) -> NwcPayment:
    """Send the one request of an attempt, unless it was sent, and record the reply.

    After any reply, or none, our own wallet is polled and decides, now or later; only
    some refusals end the attempt at once. Nothing is ever sent a second time. A wallet
    that has proven its payment, while ours does not show it, is asked for its node.
    """
    attempts = NwcPayment.objects.select_related("invoice")
    payment: NwcPayment = attempts.get(pk=payment_id)
    if payment.state != State.PENDING:
        return payment
    if payment.request_event_id is None and not _try_payment(payment):
        _poll(payment)
    payment.refresh_from_db()
    if payment.state == State.PENDING and payment.proven_at:
        _store_node(payment)
    return payment


def _poll(payment: NwcPayment) -> None:
    """Poll our own wallet for an attempt, except within the pause after a refusal."""
    if payment.refusal_final_at and payment.refusal_final_at > timezone.now():
        return
    invoice = payment.invoice
    invoice_status.poll_invoices(
        wallet_pubkey=invoice.wallet_pubkey, invoice_ids=[invoice.pk]
    )


def _try_payment(payment: NwcPayment) -> bool:
    """Send the request; return whether the attempt ended with nothing spent."""
    try:
        wallet, request = _prepare(payment)
    except CaravelError as exc:  # of any kind, since nothing was sent
        return _close_as_refused(payment, NOT_SENT, exc.message)
    return _send(payment, wallet, request)


def _prepare(payment: NwcPayment) -> tuple[Wallet, PreparedRequest]:
    """Build the request. Raises CaravelError, also if no relay can be reached."""
    invoice = payment.invoice
    if invoice.expires_at - timezone.now() < MIN_REMAINING:
        raise RequestNotSent("The invoice was too old to be sent.")
    wallet = Wallet(_uri(payment.nwc_url.reveal()))
    request = wallet.prepare_payment(
        bolt11=invoice.bolt11, expires_at=_request_expiry(invoice)
    )
    return wallet, request


def _send(payment: NwcPayment, wallet: Wallet, request: PreparedRequest) -> bool:
    if not _mark_sent(payment, request):
        return False  # another worker has sent its own
    payment_hash = payment.invoice.payment_hash
    try:
        preimage = wallet.pay_invoice(request, payment_hash=payment_hash)
    except WalletRefused as exc:
        if exc.nwc_code in _CHECKED_FIRST:
            return _close_as_refused(payment, exc.nwc_code, exc.message)
        _record_refusal(payment, exc)
    except RequestNotSent as exc:
        return _close_as_refused(payment, NOT_SENT, exc.message)
    except WalletError as exc:
        _record_unknown(payment, exc)
    else:
        _record_proof(payment, preimage)
    return False


def _request_expiry(invoice: LightningInvoice) -> datetime:
    """Return the request's NIP-40 expiration: a wallet should ignore it later."""
    lifetime = timedelta(seconds=2 * settings.NWC_TIMEOUT)
    return min(timezone.now() + lifetime, invoice.expires_at)


def _mark_sent(payment: NwcPayment, request: PreparedRequest) -> bool:
    """Store the request's id before it is sent. Returns False if another is stored."""
    unsent = NwcPayment.objects.unsent().filter(pk=payment.pk)
    is_marked = unsent.update(
        request_event_id=request.id, sent_at=timezone.now(), enqueued_at=None
    )
    if is_marked:
        payment.request_event_id = request.id
    return bool(is_marked)


def _record_proof(payment: NwcPayment, preimage: str) -> None:
    """Store the preimage at once: nothing else may prove that the tenant has paid."""
    now = timezone.now()
    pending = NwcPayment.objects.pending().filter(pk=payment.pk)
    pending.update(
        preimage=preimage, proven_at=now, replied_at=now, code="", message=""
    )


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


def _store_node(payment: NwcPayment) -> None:
    """Store the node of the tenant's wallet, which may be our own wallet's.

    A failure is repeated by the sweep.
    """
    if payment.node_pubkey:
        return
    try:
        wallet = Wallet(_uri(payment.nwc_url.reveal()))
        node_pubkey = wallet.get_info().pubkey
        if not node_pubkey:
            raise InvalidWalletReply("The tenant's wallet does not name its node.")
    except CaravelError as exc:
        columns = failure_columns(exc, failures=payment.failures, now=timezone.now())
    else:
        columns = {**NO_FAILURE, "node_pubkey": node_pubkey, "enqueued_at": None}
    NwcPayment.objects.pending().filter(pk=payment.pk).update(**columns)


def _record_unknown(payment: NwcPayment, error: WalletError) -> None:
    code = error.nwc_code or error.code
    columns = {"code": code[:64], "message": error.message[:240]}
    NwcPayment.objects.pending().filter(pk=payment.pk).update(
        replied_at=timezone.now() if error.nwc_code else None, **columns
    )
    set_wallet_error(payment, f"Your wallet may have paid, or not: {meaning(code)}")
    logger.warning("payment_unknown", payment=payment.pk, code=code)


def _close_as_refused(payment: NwcPayment, code: str, message: str) -> bool:
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


def _connected_wallet(tenant_id: str) -> tuple[Tenant, NwcUri]:
    """Return the tenant and its current wallet. Raises NoWallet."""
    tenant = Tenant.objects.get(pk=tenant_id)
    if not tenant.nwc_url:
        raise NoWallet("The tenant has connected no wallet.")
    return tenant, _uri(tenant.nwc_url.reveal())


def _uri(url: str) -> NwcUri:
    """Parse a stored connection; private relays are refused when they are dialled."""
    try:
        return parse_nwc_url(url, private_allowed=True)
    except CaravelError as exc:
        raise NoWallet("The tenant's wallet connection cannot be read.") from exc
