"""Signed receipts that anyone can verify, independently of Caravel and Stripe.

Each is a Nostr event signed by the robot. A Lightning payment proves itself as well:
the preimage's SHA-256 is the payment hash, which is in the bolt11 that our node signed.
"""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from django.conf import settings

from billing.clients.stripe.client import Stripe
from billing.clients.stripe.errors import StripeNotExecuted, StripeUnavailable
from billing.exceptions import InvoiceChanged, InvoiceNotPaid
from billing.models import InvoiceCollection, Settlement
from billing.services.collection.settlements import lightning_payment_for, value_cents
from billing.services.invoice_views.invoices import InvoiceDetails, fetch_invoice
from billing.services.invoices import locks
from billing.services.invoices.amounts import refunded_cents, taken_back_cents
from billing.services.invoices.payer import lightning_payer, paid_by, payer_elsewhere
from billing.services.invoices.records import read_invoice
from billing.services.reversals.debts import is_taken_back
from caravel.core.seller import Seller, get_seller
from caravel.nostr import npub
from caravel.nostr.events import Event, sign_event
from lightning.models import LightningInvoice

logger = structlog.get_logger(__name__)

#: Application data, addressed by its `d` tag: NIP-78.
KIND = 30_078
PaidBy = InvoiceCollection.PaidBy


@dataclass(frozen=True)
class Proof:
    """Lightning payment of an invoice. `rate` is the price of one bitcoin.

    `amount_cents` and `amount_msat` are the bolt11's amount, `received_msat` is what
    arrived. `paid_cents` is the part applied to the invoice; the rest became credit.
    `preimage` is in hex, "" if our wallet did not reveal it.
    """

    payment_hash: str
    preimage: str = field(repr=False)
    bolt11: str
    amount_cents: int
    paid_cents: int
    amount_msat: int
    received_msat: int | None
    rate: str
    rate_sources: list[dict[str, str]]


@dataclass(frozen=True)
class ReceiptData:
    """Content of a receipt, amounts in the currency's minor unit.

    `paid_cents` was paid with money, the last part of it by `paid_by`; `credit_cents`,
    the rest of the total, was covered by credit. `refunded_cents` was refunded since,
    `disputed_cents` was taken back by the payer's bank and not paid again.
    """

    seller: Seller
    invoice_id: str
    number: str
    tenant_pubkey: str
    tenant_npub: str
    currency: str
    total_cents: int
    paid_cents: int
    credit_cents: int
    refunded_cents: int
    disputed_cents: int
    paid_at: datetime
    paid_by: str
    lightning: Proof | None

    def to_dict(self) -> dict[str, Any]:
        """Return the content for JSON."""
        return {**asdict(self), "paid_at": self.paid_at.isoformat()}


@dataclass(frozen=True)
class Receipt(ReceiptData):
    """Content of a receipt, and the event in which the robot signs it.

    The event's content is canonical JSON, so equal receipts have equal event ids.
    """

    signed: Event = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the content and the signed event for JSON."""
        data = {**vars(self)}
        signed: Event = data.pop("signed")
        return {**ReceiptData(**data).to_dict(), "signed": signed.to_dict()}


def build_receipt(invoice_id: str) -> Receipt:
    """Return the signed receipt of a paid invoice.

    A settled Lightning payment counts before it is marked in Stripe, but not if it
    became credit. What we sign was read from Stripe or from our own rows now, never
    from the cache. Raises UnknownInvoice, InvoiceNotPaid, or a StripeError when Stripe
    is needed and unavailable.
    """
    collection = InvoiceCollection.objects.filter(pk=invoice_id).first()
    if collection:
        _require_kept(collection)
    payment = _settled_payment(collection) if collection else None
    if collection and payment:
        return _sign(_paid_by_lightning(collection, payment))
    return _sign(_paid_in_stripe(fetch_invoice(invoice_id), collection))


def _require_kept(collection: InvoiceCollection) -> None:
    """Require that not all of the payment was taken back, and that none is owed again.

    Raises InvoiceNotPaid.
    """
    if collection.dispute_debt_cents or is_taken_back(collection):
        raise InvoiceNotPaid("The payment of this invoice was disputed and taken back.")


def _settled_payment(collection: InvoiceCollection) -> LightningInvoice | None:
    """Return the settled Lightning payment that pays the invoice.

    Reads the invoice from Stripe while the payment is not marked there: it may have
    been paid in Stripe first. If Stripe is unavailable, our last reading counts.
    """
    payment = lightning_payment_for(collection)
    marked = Settlement.objects.filter(state=Settlement.State.MARKED)
    if payment is None or marked.filter(invoice=payment).exists():
        return payment
    try:
        invoice = read_invoice(Stripe(), collection.pk, collection.tenant)
    except (StripeUnavailable, StripeNotExecuted, InvoiceChanged) as exc:
        logger.warning("receipt_unconfirmed", invoice=collection.pk, error=str(exc))
        return payment
    collection.refresh_from_db()
    # We mark Lightning payments as paid out of band in Stripe ourselves.
    is_paid_in_stripe = collection.is_final and not invoice.paid_off_stripe
    return None if is_paid_in_stripe else lightning_payment_for(collection)


def _paid_by_lightning(
    collection: InvoiceCollection, payment: LightningInvoice
) -> ReceiptData:
    if payment.settled_at is None:
        raise AssertionError(f"{payment.pk} is not settled")
    # Before the payment is marked, the remaining amount is what it is going to pay.
    paid_cents = collection.amount_paid_cents + collection.amount_remaining_cents
    return _receipt_data(
        collection.pk,
        number=collection.number,
        pubkey=collection.tenant_id,
        currency=collection.currency,
        total_cents=collection.total_cents,
        paid_cents=paid_cents,
        paid_at=payment.settled_at,
        paid_by=lightning_payer(payment.pk),
        lightning=_proof(payment, paid_cents=_applied_cents(collection, payment)),
    )


def _applied_cents(collection: InvoiceCollection, payment: LightningInvoice) -> int:
    """Return the part of a payment that is applied to the invoice, marked or not."""
    marked = Settlement.objects.filter(invoice=payment, state=Settlement.State.MARKED)
    if settlement := marked.first():
        return settlement.marked_cents
    # Nothing remains while our marking in Stripe is done, but not recorded yet.
    already_paid = collection.amount_paid_cents
    return collection.amount_remaining_cents or min(value_cents(payment), already_paid)


def _paid_in_stripe(
    invoice: InvoiceDetails, collection: InvoiceCollection | None
) -> ReceiptData:
    if invoice.status != InvoiceCollection.Status.PAID:
        raise InvoiceNotPaid("This invoice is not paid.")
    if invoice.total_cents <= 0:
        raise InvoiceNotPaid("There was nothing to pay on this invoice.")
    # Until our charge's outcome is recorded, the receipt would say `elsewhere`.
    if collection and locks.has_pending_charge(collection.pk):
        raise InvoiceNotPaid("It is not known yet whether our charge paid this.")
    paid_cents = invoice.amount_paid_cents
    return _receipt_data(
        invoice.id,
        number=invoice.number,
        pubkey=invoice.tenant_pubkey,
        currency=invoice.currency,
        total_cents=invoice.total_cents,
        paid_cents=paid_cents,
        paid_at=invoice.paid_at or invoice.finalized_at or invoice.created_at,
        paid_by=paid_by(collection, amount_paid_cents=paid_cents)
        if collection
        else payer_elsewhere(paid_cents),
        lightning=None,
    )


def _receipt_data(
    invoice_id: str,
    *,
    number: str,
    pubkey: str,
    currency: str,
    total_cents: int,
    paid_cents: int,
    paid_at: datetime,
    paid_by: PaidBy,
    lightning: Proof | None,
) -> ReceiptData:
    return ReceiptData(
        seller=get_seller(),
        invoice_id=invoice_id,
        number=number,
        tenant_pubkey=pubkey,
        tenant_npub=npub(pubkey),
        currency=currency,
        total_cents=total_cents,
        paid_cents=paid_cents,
        credit_cents=total_cents - paid_cents,
        refunded_cents=refunded_cents([invoice_id]).get(invoice_id, 0),
        disputed_cents=taken_back_cents(invoice_id),
        # An event's created_at is in whole seconds (NIP-01).
        paid_at=paid_at.astimezone(UTC).replace(microsecond=0),
        paid_by=paid_by.value,
        lightning=lightning,
    )


def _proof(payment: LightningInvoice, *, paid_cents: int) -> Proof:
    return Proof(
        paid_cents=paid_cents,
        payment_hash=payment.payment_hash,
        preimage=payment.preimage.reveal(),
        bolt11=payment.bolt11,
        amount_cents=payment.amount_cents,
        amount_msat=payment.amount_msat,
        received_msat=payment.received_msat,
        rate=format(payment.rate.normalize(), "f"),
        rate_sources=payment.rate_sources,
    )


def _sign(data: ReceiptData) -> Receipt:
    content = json.dumps(
        data.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    # The time of the payment, not of the signature: the event id stays the same.
    event = sign_event(
        settings.ROBOT_SECRET,
        kind=KIND,
        content=content,
        tags=[("d", f"receipt:{data.invoice_id}"), ("p", data.tenant_pubkey)],
        created_at=int(data.paid_at.timestamp()),
    )
    return Receipt(**vars(data), signed=event)
