"""Lightning invoices: at most one is open per Stripe invoice.

Issuing waits for our wallet, so the caller issues first, then locks the Lightning
invoices, checks what else may pay, and saves, all in one transaction of its own.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from lightning.clients.bolt11 import Bolt11
from lightning.clients.pace import Share
from lightning.exceptions import (
    AlreadySettled,
    PaymentInProgress,
)
from lightning.models import LightningInvoice
from lightning.services import endings, invoice_status, own_wallets, polls
from lightning.services.live_payments import live_payments_for_payers
from lightning.services.rates import Quote, quote

State = LightningInvoice.State
#: The wait for a new invoice after one has expired: a payment may be arriving.
_REISSUE_DELAY = timedelta(seconds=60)


@dataclass(frozen=True)
class PaymentRequest:
    """A request to pay an amount, in the minor unit, of a tenant's Stripe invoice.

    `booked`: ids of Lightning invoices for it that were paid, but became credit.
    """

    tenant_id: str
    stripe_invoice_id: str
    amount_cents: int
    currency: str
    description: str
    booked: frozenset[int] = frozenset()


def current_invoice(*, payment_request: PaymentRequest) -> LightningInvoice | None:
    """Return the invoice that a payer was presented and may still pay, if any.

    Raises PaymentInProgress while a wallet payment is pending, or AlreadySettled.
    """
    with transaction.atomic():
        return lock_for_payer(payment_request=payment_request)


def issue_for_payer(*, payment_request: PaymentRequest) -> LightningInvoice:
    """Issue an invoice for a payer and return it unsaved: see `save_as_presented`.

    Raises PaymentInProgress until an earlier invoice is known to be unpaid,
    RateUnavailable, InvoiceMismatch, or a WalletError of our own wallet.
    """
    _require_expired_unpaid(payment_request)
    return issue_invoice(payment_request=payment_request, share=Share.PERSON)


def lock_for_payer(*, payment_request: PaymentRequest) -> LightningInvoice | None:
    """Lock the Lightning invoices of a Stripe invoice, before the collection's lock.

    Returns the one that a payer can pay now: then no other may be presented. Raises
    PaymentInProgress while a wallet payment is pending or support must decide about
    one, or AlreadySettled.
    """
    rows = lock_invoices(payment_request.stripe_invoice_id)
    _require_none_undecided(payment_request.stripe_invoice_id)
    require_unsettled(rows, payment_request)
    now = timezone.now()
    current = (r for r in rows if r.state == State.OPEN and r.expires_at > now)
    return next(current, None)


def save_as_presented(invoice: LightningInvoice) -> None:
    """Save an issued invoice as the one that a payer sees.

    Call it in the transaction of `lock_for_payer`. Raises PaymentInProgress if a
    concurrent request has saved one.
    """
    now = timezone.now()
    # Only what has expired: the invoice of a concurrent request stays open, so that
    # the unique index rejects this one.
    open_rows = LightningInvoice.objects.of(invoice.stripe_invoice_id).open()
    for row in open_rows.filter(expires_at__lte=now):
        endings.expire(row)
    invoice.shown_at = now
    save_as_open(invoice)


def reissue_at(invoice: LightningInvoice) -> datetime:
    """Return the earliest time for a new invoice after this one expires unpaid."""
    return invoice.expires_at + _REISSUE_DELAY


def issue_invoice(
    *, payment_request: PaymentRequest, share: Share = Share.BACKGROUND
) -> LightningInvoice:
    """Have our wallet make an invoice and return it unsaved: no payer knows it yet.

    Raises OwnWalletUnproven, or the errors of `own_wallets.make_invoice`.
    """
    price = quote(
        amount_cents=payment_request.amount_cents, currency=payment_request.currency
    )
    wallet = own_wallets.issuing_wallet(share)
    decoded = own_wallets.make_invoice(
        wallet,
        amount_msat=price.amount_msat,
        description=payment_request.description,
        expiry=settings.LIGHTNING_EXPIRY,
    )
    return _build_invoice(payment_request, price, decoded, wallet.uri.pubkey)


def save_as_open(invoice: LightningInvoice) -> None:
    """Save an issued invoice as open. Raises PaymentInProgress if another one is."""
    try:
        with transaction.atomic():
            invoice.save()
    except IntegrityError as exc:
        raise PaymentInProgress("Another payment has just been started.") from exc


def lock_invoices(stripe_invoice_id: str) -> list[LightningInvoice]:
    """Lock and return all Lightning invoices of a Stripe invoice, oldest first."""
    rows = LightningInvoice.objects.of(stripe_invoice_id)
    return list(rows.select_for_update(of=("self",)))


def require_unsettled(
    rows: list[LightningInvoice], payment_request: PaymentRequest
) -> None:
    """Raise AlreadySettled if one was paid that may count towards the request."""
    booked = payment_request.booked
    if any(row.state == State.SETTLED and row.pk not in booked for row in rows):
        raise AlreadySettled("A Lightning payment for this invoice has arrived.")


def _require_expired_unpaid(payment_request: PaymentRequest) -> None:
    """Require our wallet's word that earlier invoices were unpaid after their expiry.

    An answer counts from a minute after the expiry: a payment may have been arriving.
    One that is still open is another click's: `lock_for_payer` returns it.
    """
    live = LightningInvoice.objects.of(payment_request.stripe_invoice_id).live()
    for row in live.exclude(state=State.OPEN, expires_at__gt=timezone.now()):
        ready_at = reissue_at(row)
        if timezone.now() >= ready_at and not _has_answer_since(row, ready_at):
            row = invoice_status.check_invoice(
                invoice_id=row.pk, must_answer=True, share=Share.PERSON
            )
        if row.is_watched and not _has_answer_since(row, ready_at):
            until = ready_at if ready_at > timezone.now() else None
            raise PaymentInProgress("A payment may be arriving.", until=until)


def _has_answer_since(row: LightningInvoice, since: datetime) -> bool:
    return row.answered_at is not None and row.answered_at >= since


def _require_none_undecided(stripe_invoice_id: str) -> None:
    live = live_payments_for_payers([stripe_invoice_id])
    for payment in live.values():
        raise PaymentInProgress(payment.reason, until=payment.until)


def _build_invoice(
    payment_request: PaymentRequest, price: Quote, decoded: Bolt11, wallet_pubkey: str
) -> LightningInvoice:
    now = timezone.now()
    return LightningInvoice(
        tenant_id=payment_request.tenant_id,
        stripe_invoice_id=payment_request.stripe_invoice_id,
        amount_cents=payment_request.amount_cents,
        currency=payment_request.currency.lower(),
        amount_msat=price.amount_msat,
        rate=price.rate,
        rate_sources=[
            {"name": s.name, "price": str(s.price), "as_of": s.as_of.isoformat()}
            for s in price.sources
        ],
        bolt11=decoded.text,
        payment_hash=decoded.payment_hash,
        wallet_pubkey=wallet_pubkey,
        issued_at=now,
        expires_at=decoded.expires_at,
        next_attempt_at=now + polls.OPEN_POLL_INTERVAL,
    )
