"""Receipts that anybody can check, without us and without Stripe.

Each is signed by the robot as a Nostr event. A Lightning payment proves itself as well:
the preimage's SHA-256 is the payment hash, which is in the bolt11 that our node signed.
"""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from django.conf import settings

from billing.clients.stripe.client import Stripe
from billing.exceptions import (
    InvoiceChanged,
    InvoiceNotPaid,
    StripeRateLimited,
    StripeUnavailable,
)
from billing.models import InvoiceCollection, Settlement
from billing.services.collection.settlements import lightning_payment_for, value_cents
from billing.services.invoice_views.invoices import InvoiceView, get_invoice
from billing.services.invoices import locks
from billing.services.invoices.payer import lightning_payer, paid_by, payer_elsewhere
from billing.services.invoices.records import read_invoice
from caravel.nostr import npub
from caravel.nostr.events import Event, sign_event
from lightning.models import LightningInvoice

logger = structlog.get_logger(__name__)

#: Data of an application, addressed by its `d` tag: NIP-78.
KIND = 30_078
PaidBy = InvoiceCollection.PaidBy


@dataclass(frozen=True)
class Proof:
    """The Lightning payment of an invoice; `rate` is the price of one bitcoin.

    `amount_cents` is what the bolt11 was for, `paid_cents` what of the invoice it paid:
    the rest became credit. `amount_msat` is what it asked for, and `received_msat` what
    arrived. `preimage` is in hex, "" if our wallet did not tell.
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
    """What a receipt states, amounts in the currency's minor unit.

    `paid_cents` came as money, the last of it by what `paid_by` says; `credit_cents` is
    the rest of the total, which credit made up for.
    """

    invoice_id: str
    number: str
    tenant_pubkey: str
    tenant_npub: str
    currency: str
    total_cents: int
    paid_cents: int
    credit_cents: int
    paid_at: datetime
    paid_by: str
    lightning: Proof | None

    def to_dict(self) -> dict[str, Any]:
        """Return what is stated, as JSON has it."""
        return {**asdict(self), "paid_at": self.paid_at.isoformat()}


@dataclass(frozen=True)
class Receipt(ReceiptData):
    """What a receipt states, and the event by which the robot states it.

    The event's content is the facts in canonical JSON; a receipt with the same facts
    has the same event id, whenever it is asked for.
    """

    signed: Event = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the facts and the event, as JSON has them."""
        facts = {**vars(self)}
        signed: Event = facts.pop("signed")
        return {**ReceiptData(**facts).to_dict(), "signed": signed.to_dict()}


def build_receipt(invoice_id: str) -> Receipt:
    """Return the receipt of a paid invoice.

    A Lightning payment that has arrived counts before Stripe knows of it. One that
    became credit is no payment of this invoice, so that no receipt tells of it. Raises
    UnknownInvoice, InvoiceNotPaid, or a StripeError for what only Stripe knows.
    """
    collection = InvoiceCollection.objects.filter(pk=invoice_id).first()
    payment = _arrived(collection) if collection else None
    if collection and payment:
        return _signed(_by_lightning(collection, payment))
    return _signed(_at_stripe(get_invoice(invoice_id), collection))


def _arrived(collection: InvoiceCollection) -> LightningInvoice | None:
    """Return the Lightning payment that paid an invoice.

    Before it is marked, what it will pay depends on what the invoice is now. If Stripe
    is away it is what it was when it was last read.
    """
    payment = lightning_payment_for(collection)
    if payment is None or _is_marked(payment):
        return payment
    try:
        found = read_invoice(Stripe(), collection.pk, collection.tenant)
    except (StripeUnavailable, StripeRateLimited, InvoiceChanged) as exc:
        logger.warning("receipt_unconfirmed", invoice=collection.pk, error=str(exc))
        return payment
    collection.refresh_from_db()
    paid_at_stripe = collection.is_final and not found.paid_off_stripe
    return None if paid_at_stripe else lightning_payment_for(collection)


def _is_marked(payment: LightningInvoice) -> bool:
    marked = Settlement.objects.filter(state=Settlement.State.MARKED)
    return marked.filter(invoice=payment).exists()


def _by_lightning(
    collection: InvoiceCollection, payment: LightningInvoice
) -> ReceiptData:
    if payment.settled_at is None:
        raise AssertionError(f"{payment.pk} has not arrived")
    # What is left of it until it is marked is what this payment covers.
    paid = collection.amount_paid_cents + collection.amount_remaining_cents
    return _facts(
        collection.pk,
        number=collection.number,
        pubkey=collection.tenant_id,
        currency=collection.currency,
        total_cents=collection.total_cents,
        paid_cents=paid,
        paid_at=payment.settled_at,
        paid_by=lightning_payer(payment.pk),
        lightning=_proof(payment, paid_cents=_counted(collection, payment)),
    )


def _counted(collection: InvoiceCollection, payment: LightningInvoice) -> int:
    """Return what of an invoice a payment has paid, or is about to be marked for."""
    marked = Settlement.objects.filter(invoice=payment, state=Settlement.State.MARKED)
    if settlement := marked.first():
        return settlement.marked_cents
    paid_already = collection.amount_paid_cents
    return collection.amount_remaining_cents or min(value_cents(payment), paid_already)


def _at_stripe(view: InvoiceView, collection: InvoiceCollection | None) -> ReceiptData:
    if view.status != InvoiceCollection.Status.PAID:
        raise InvoiceNotPaid("This invoice is not paid.")
    if view.total_cents <= 0:
        raise InvoiceNotPaid("There was nothing to pay on this invoice.")
    if collection and locks.has_pending_charge(collection.pk):
        raise InvoiceNotPaid("Whether our charge has paid this is not known yet.")
    money = view.amount_paid_cents
    return _facts(
        view.id,
        number=view.number,
        pubkey=view.tenant_pubkey,
        currency=view.currency,
        total_cents=view.total_cents,
        paid_cents=money,
        paid_at=view.paid_at or view.finalized_at or view.created_at,
        paid_by=paid_by(collection, amount_paid_cents=money)
        if collection
        else payer_elsewhere(money),
        lightning=None,
    )


def _facts(
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
        invoice_id=invoice_id,
        number=number,
        tenant_pubkey=pubkey,
        tenant_npub=npub(pubkey),
        currency=currency,
        total_cents=total_cents,
        paid_cents=paid_cents,
        credit_cents=total_cents - paid_cents,
        # An event has whole seconds.
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


def _signed(facts: ReceiptData) -> Receipt:
    content = json.dumps(
        facts.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    event = sign_event(
        settings.ROBOT_SECRET,
        kind=KIND,
        content=content,
        tags=[("d", f"receipt:{facts.invoice_id}"), ("p", facts.tenant_pubkey)],
        created_at=int(facts.paid_at.timestamp()),
    )
    return Receipt(**vars(facts), signed=event)
