"""Issuing Lightning invoices, so that only one way of paying is ever open."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from lightning.clients.bolt11 import Bolt11, decode
from lightning.exceptions import (
    AlreadySettled,
    InvoiceMismatch,
    PaymentInProgress,
)
from lightning.models import LightningInvoice
from lightning.services import invoice_status, own_wallets
from lightning.services.rates import Quote, quote

State = LightningInvoice.State
#: What a higher app has to say against a new invoice: it raises in the transaction
#: that would store it, when the Lightning invoices of the bill are locked.
Guard = Callable[[], None]
#: How long after its expiry a person waits for a fresh one: a payment may be arriving.
_PAUSE = timedelta(seconds=60)
#: How far our wallet's clock may be from ours.
_SKEW = timedelta(seconds=120)


@dataclass(frozen=True)
class PaymentRequest:
    """What is to be paid: so much, in minor units, of a tenant's Stripe invoice.

    `booked` are Lightning invoices for it that were paid, but not counted towards it.
    """

    tenant_id: str
    stripe_invoice_id: str
    amount_cents: int
    currency: str
    description: str
    booked: frozenset[int] = frozenset()


def nothing_else() -> None:
    """The guard of who knows of no other way of paying."""


def get_or_issue_invoice(
    *, bill: PaymentRequest, guard: Guard = nothing_else
) -> LightningInvoice:
    """Return the invoice that a person may pay, having issued one if need be.

    Raises PaymentInProgress with the time until when something else may still pay the
    bill, AlreadySettled, RateUnavailable, or a WalletError of our own wallet.
    """
    shown = current_invoice(bill=bill)
    if shown is None:
        _require_lapsed(bill)
        shown = _show(bill, issue_invoice(bill=bill), guard)
    return shown


def current_invoice(*, bill: PaymentRequest) -> LightningInvoice | None:
    """Return the invoice that a person was shown and may still pay, if there is one.

    Raises PaymentInProgress while a wallet has been asked, or AlreadySettled.
    """
    with transaction.atomic():
        return _on_offer(_locked_for_person(bill))


def payable_until(stripe_invoice_id: str) -> datetime | None:
    """Return until when a Stripe invoice may at the latest be paid by Lightning.

    None if it cannot be, so that another way of paying may begin. A time that has
    passed means that our wallet's answer is still awaited.
    """
    live = LightningInvoice.objects.of(stripe_invoice_id).live()
    return max((invoice.final_at for invoice in live), default=None)


def live_until(stripe_invoice_ids: Iterable[str]) -> dict[str, datetime]:
    """Return until when those that may be paid by Lightning may be, at the latest."""
    live = LightningInvoice.objects.live().filter(
        stripe_invoice_id__in=stripe_invoice_ids
    )
    # Of several of one bill the last stays.
    return {row.stripe_invoice_id: row.final_at for row in live.order_by("expires_at")}


def fresh_at(invoice: LightningInvoice) -> datetime:
    """Return from when a person who let an invoice expire may ask for another."""
    return invoice.expires_at + _PAUSE


def issue_invoice(*, bill: PaymentRequest) -> LightningInvoice:
    """Have our wallet make an invoice and return it, unsaved: nobody knows it yet.

    Raises InvoiceMismatch when it is not what was asked for.
    """
    price = quote(amount_cents=bill.amount_cents, currency=bill.currency)
    wallet = own_wallets.issuing_wallet()
    expiry = settings.LIGHTNING_EXPIRY
    asked_at = timezone.now()
    issued = wallet.make_invoice(
        amount_msat=price.amount_msat, description=bill.description, expiry=expiry
    )
    decoded = decode(issued.bolt11)
    _require_match(decoded, issued.payment_hash, price.amount_msat, expiry, asked_at)
    return _unsaved(bill, price, decoded, wallet.uri.pubkey)


def record(invoice: LightningInvoice) -> None:
    """Store a new invoice as the open one. Raises PaymentInProgress if there is one."""
    try:
        with transaction.atomic():
            invoice.save()
    except IntegrityError as exc:
        raise PaymentInProgress("Another way of paying has just begun.") from exc


def lock(stripe_invoice_id: str) -> list[LightningInvoice]:
    """Lock and return all Lightning invoices of a Stripe invoice, oldest first."""
    rows = LightningInvoice.objects.of(stripe_invoice_id)
    return list(rows.select_for_update(of=("self",)))


def require_unsettled(rows: list[LightningInvoice], bill: PaymentRequest) -> None:
    """Raise AlreadySettled if one of these was paid, and may count towards the bill."""
    if any(row.state == State.SETTLED and row.pk not in bill.booked for row in rows):
        raise AlreadySettled("A Lightning payment for this invoice has arrived.")


def _locked_for_person(bill: PaymentRequest) -> list[LightningInvoice]:
    """Lock a bill's invoices, and make sure that a person may pay one."""
    rows = lock(bill.stripe_invoice_id)
    _require_no_attempt(rows)
    require_unsettled(rows, bill)
    return rows


def _on_offer(rows: list[LightningInvoice]) -> LightningInvoice | None:
    now = timezone.now()
    on_offer = (r for r in rows if r.state == State.OPEN and r.expires_at > now)
    return next(on_offer, None)


def _require_lapsed(bill: PaymentRequest) -> None:
    """Make sure that what was shown before has not been paid, as far as can be known.

    That takes an answer of our wallet from a minute after the expiry, or later.
    """
    for row in LightningInvoice.objects.of(bill.stripe_invoice_id).live():
        ready_at = fresh_at(row)
        if timezone.now() >= ready_at and not _is_answered(row, ready_at):
            row = invoice_status.check_invoice(invoice_id=row.pk, must_answer=True)
        if row.is_watched and not _is_answered(row, ready_at):
            raise PaymentInProgress("A payment may be arriving.", until=ready_at)


def _is_answered(row: LightningInvoice, since: datetime) -> bool:
    return row.answered_at is not None and row.answered_at >= since


def _show(
    bill: PaymentRequest, invoice: LightningInvoice, guard: Guard
) -> LightningInvoice:
    """Make a new invoice the one on offer; if another is by now, nobody sees ours."""
    try:
        with transaction.atomic():
            rows = _locked_for_person(bill)
            if other := _on_offer(rows):
                return other
            guard()
            for row in rows:
                if row.state == State.OPEN:
                    invoice_status.expire(row)
            invoice.shown_at = timezone.now()
            record(invoice)
            return invoice
    except PaymentInProgress:
        # Two clicks at once, and no row yet that the second could have waited for.
        if other := current_invoice(bill=bill):
            return other
        raise


def _require_no_attempt(rows: list[LightningInvoice]) -> None:
    attempts = LightningInvoice.objects.filter(pk__in=[row.pk for row in rows])
    row = attempts.filter(payment__state="pending").first()
    if row is not None:
        raise PaymentInProgress(
            "The tenant's wallet has been asked to pay this.", until=row.final_at
        )


def _require_match(
    decoded: Bolt11,
    payment_hash: str,
    amount_msat: int,
    expiry: int,
    asked_at: datetime,
) -> None:
    lifetime = decoded.expires_at - decoded.created_at
    if decoded.payment_hash != payment_hash:
        raise InvoiceMismatch("Our wallet's invoice has another payment hash.")
    if decoded.amount_msat != amount_msat:
        raise InvoiceMismatch("Our wallet's invoice has another amount.")
    if lifetime != timedelta(seconds=expiry):
        raise InvoiceMismatch("Our wallet's invoice has another expiry.")
    if abs(decoded.created_at - asked_at) > _SKEW:
        raise InvoiceMismatch("Our wallet's clock is wrong.")


def _unsaved(
    bill: PaymentRequest, price: Quote, decoded: Bolt11, wallet_pubkey: str
) -> LightningInvoice:
    now = timezone.now()
    return LightningInvoice(
        tenant_id=bill.tenant_id,
        stripe_invoice_id=bill.stripe_invoice_id,
        amount_cents=bill.amount_cents,
        currency=bill.currency.lower(),
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
        next_attempt_at=now + invoice_status.FIRST_LOOK,
    )
