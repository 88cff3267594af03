"""Payments by tenants' wallets: one invoice, one request, one outcome per attempt."""

from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from caravel.core.exceptions import CaravelError
from lightning.clients.nwc import PreparedRequest, Wallet
from lightning.clients.nwc_uri import NwcUri, parse_nwc_url
from lightning.exceptions import (
    NoWallet,
    PaymentInProgress,
    RequestNotSent,
    WalletError,
    WalletRefused,
)
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoice_status, invoices
from lightning.services.invoices import PaymentRequest
from lightning.services.wallets import set_wallet_error
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

State = NwcPayment.State
#: Code of an attempt whose request never reached a relay.
NOT_SENT = "NOT_SENT"
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
    until = invoices.payable_until(payment_request.stripe_invoice_id)
    if until is not None:
        raise PaymentInProgress("It may still be paid by Lightning.", until=until)


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

    A refusal ends the attempt. After any other reply, or none, our own wallet is polled
    and decides, now or later. Nothing is ever sent a second time.
    """
    attempts = NwcPayment.objects.select_related("invoice")
    payment: NwcPayment = attempts.get(pk=payment_id)
    if payment.state != State.PENDING or payment.request_event_id:
        return payment
    if not _try_payment(payment):
        invoice = payment.invoice
        invoice_status.poll_invoices(
            wallet_pubkey=invoice.wallet_pubkey, invoice_ids=[invoice.pk]
        )
    payment.refresh_from_db()
    return payment


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
    try:
        wallet.pay_invoice(request, payment_hash=payment.invoice.payment_hash)
    except WalletRefused as exc:
        return _close_as_refused(payment, exc.nwc_code, exc.message)
    except RequestNotSent as exc:
        return _close_as_refused(payment, NOT_SENT, exc.message)
    except WalletError as exc:
        _record_unknown(payment, exc)
    else:
        _record_reply(payment)
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


def _record_reply(payment: NwcPayment) -> None:
    """Record the reply; only our own wallet's answer ends the attempt."""
    pending = NwcPayment.objects.pending().filter(pk=payment.pk)
    pending.update(replied_at=timezone.now(), code="", message="")


def _record_unknown(payment: NwcPayment, error: WalletError) -> None:
    code = error.nwc_code or error.code
    columns = {"code": code[:64], "message": error.message[:240]}
    NwcPayment.objects.pending().filter(pk=payment.pk).update(
        replied_at=timezone.now() if error.nwc_code else None, **columns
    )
    set_wallet_error(payment, f"Your wallet may have paid, or not: {error.message}")
    logger.warning("payment_unknown", payment=payment.pk, code=code)


def _close_as_refused(payment: NwcPayment, code: str, message: str) -> bool:
    """Close an attempt that spent nothing, and expire its invoice.

    Returns False if it has ended already, or another request was sent.
    """
    with transaction.atomic():
        invoice = LightningInvoice.objects.select_for_update().get(
            pk=payment.invoice_id
        )
        locked = NwcPayment.objects.select_for_update().get(pk=payment.pk)
        # Another worker may have sent a request that is still unanswered.
        is_same = locked.request_event_id == payment.request_event_id
        if locked.state != State.PENDING or not is_same:
            return False
        # Before the saves: their receivers lock the collection, after the tenant.
        set_wallet_error(locked, f"Your wallet did not pay: {message}")
        locked.state = State.REFUSED
        locked.code, locked.message = code[:64], message[:240]
        locked.resolved_at = locked.replied_at = timezone.now()
        locked.enqueued_at = None
        locked.nwc_url = ""
        locked.save()
        if invoice.state == LightningInvoice.State.OPEN:
            invoice_status.expire(invoice)
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
