"""The receipt on the page of an invoice that is paid, in words."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import structlog

from billing.exceptions import InvoiceNotPaid, StripeError, UnknownInvoice
from billing.models import InvoiceCollection
from billing.money import format_amount, format_price
from billing.services.invoice_views.receipts import Proof, Receipt, build_receipt
from billing.services.payment_page.page import PageState, PaymentPage
from billing.services.payment_page.timeouts import run_with_timeout
from caravel.nostr import npub

logger = structlog.get_logger(__name__)

#: Seconds that a page waits for what only Stripe knows of a payment.
PATIENCE = 2.0
PaidBy = InvoiceCollection.PaidBy
_HOW = {
    PaidBy.WALLET: "Lightning, from the connected wallet",
    PaidBy.LIGHTNING: "Lightning",
    PaidBy.CARD: "Card",
    PaidBy.CREDIT: "Credit",
    PaidBy.ELSEWHERE: "Another way, at Stripe",
}


@dataclass(frozen=True)
class ReceiptLine:
    """One line of a receipt; what `is_code` is long, and for machines."""

    title: str
    value: str = field(repr=False)
    is_code: bool = False


@dataclass(frozen=True)
class PageReceipt:
    """What a receipt says, and for machines the signed event that says the same.

    `paid_at` and `signed` are not there while only our own rows could be asked.
    """

    facts: tuple[ReceiptLine, ...]
    paid_at: datetime | None = None
    proof: Proof | None = None
    signer: str = ""
    signed: str = field(default="", repr=False)


def page_receipt(page: PaymentPage) -> PageReceipt | None:
    """Return the receipt of a page that says «paid», None of any other."""
    if page.state != PageState.PAID:
        return None
    try:
        receipt = run_with_timeout(PATIENCE, lambda: build_receipt(page.invoice.pk))
    except (StripeError, UnknownInvoice, InvoiceNotPaid, TimeoutError) as exc:
        logger.warning("no_receipt", error=str(exc) or "it takes too long")
        return PageReceipt(tuple(_known(page)))
    return PageReceipt(
        facts=tuple(_facts(receipt)),
        paid_at=receipt.paid_at,
        proof=receipt.lightning,
        signer=npub(receipt.signed.pubkey),
        signed=json.dumps(receipt.signed.to_dict(), ensure_ascii=False),
    )


def _known(page: PaymentPage) -> Iterator[ReceiptLine]:
    """Return what our own rows say, while nobody else can be asked."""
    yield ReceiptLine("Amount", page.amount)
    if page.paid_by:
        yield ReceiptLine("Paid by", _HOW[PaidBy(page.paid_by)])
    yield ReceiptLine("Invoice", page.number)
    if page.payment:
        yield ReceiptLine("Payment hash", page.payment.payment_hash, is_code=True)


def _facts(receipt: Receipt) -> Iterator[ReceiptLine]:
    yield ReceiptLine("Paid", format_amount(receipt.paid_cents, receipt.currency))
    if receipt.credit_cents:
        credit = format_amount(receipt.credit_cents, receipt.currency)
        yield ReceiptLine("From credit", credit)
    yield ReceiptLine("On", f"{receipt.paid_at:%-d %B %Y, %H:%M} UTC")
    yield ReceiptLine("By", _HOW[PaidBy(receipt.paid_by)])
    yield ReceiptLine("Invoice", receipt.number or receipt.invoice_id)
    if receipt.lightning:
        yield from _lightning(receipt, receipt.lightning)


def _lightning(receipt: Receipt, proof: Proof) -> Iterator[ReceiptLine]:
    if proof.paid_cents != receipt.paid_cents:
        part = format_amount(proof.paid_cents, receipt.currency)
        yield ReceiptLine("By Lightning", part)
    msat = proof.received_msat or proof.amount_msat
    yield ReceiptLine("In sats", f"{Decimal(msat) / 1000:,f}".removesuffix(".000"))
    yield ReceiptLine(
        "Price of a bitcoin", format_price(Decimal(proof.rate), receipt.currency)
    )
    yield ReceiptLine("Payment hash", proof.payment_hash, is_code=True)
    if proof.preimage:
        yield ReceiptLine("Preimage", proof.preimage, is_code=True)
