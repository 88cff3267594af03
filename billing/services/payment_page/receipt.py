"""Formatted receipt on the page of a paid invoice."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import structlog
from limits import parse

from billing.clients.stripe.errors import StripeError
from billing.exceptions import InvoiceNotPaid, UnknownInvoice
from billing.models import InvoiceCollection
from billing.money import format_amount, format_price
from billing.services.invoice_views.receipts import Proof, Receipt, build_receipt
from billing.services.invoices.payer import was_bank_debited
from billing.services.payment_page.page import PageState, PaymentPage
from billing.services.payment_page.timeouts import run_with_timeout
from caravel.core.rate_limit import delay_after_hit
from caravel.nostr import npub

logger = structlog.get_logger(__name__)

#: Seconds that the page waits for payment details that only Stripe has.
RECEIPT_TIMEOUT = 2.0
#: Receipts of one invoice. Each is read at Stripe, and a few addresses that reload a
#: page could otherwise use up the rate of requests that billing needs.
_RATE = parse("10 per minute")
PaidBy = InvoiceCollection.PaidBy
_PAYMENT_METHODS = {
    PaidBy.WALLET: "Lightning, from the connected wallet",
    PaidBy.LIGHTNING: "Lightning",
    PaidBy.CARD: "Card",
    PaidBy.CREDIT: "Credit",
    PaidBy.ELSEWHERE: "Another method, recorded in Stripe",
}


@dataclass(frozen=True)
class ReceiptLine:
    """Line of a receipt. `is_code` marks long values, for monospaced type.

    A line with a time has it in `at`, and no `value`.
    """

    title: str
    value: str = field(default="", repr=False)
    is_code: bool = False
    at: datetime | None = None

    @property
    def text(self) -> str:
        """The value, or the time in UTC."""
        return self.value or (f"{self.at:%-d %B %Y, %H:%M} UTC" if self.at else "")


@dataclass(frozen=True)
class PageReceipt:
    """Lines of a receipt, and in `signed` the Nostr event that states the same.

    Without an answer from Stripe, or above the rate limit, only `lines` are set.
    """

    lines: tuple[ReceiptLine, ...]
    paid_at: datetime | None = None
    proof: Proof | None = None
    signer: str = ""
    signed: str = field(default="", repr=False)


def page_receipt(page: PaymentPage) -> PageReceipt | None:
    """Return the receipt, None if the page is not in the state PAID."""
    if page.state != PageState.PAID:
        return None
    if delay_after_hit(_RATE, "receipt-page", page.invoice.pk):
        return PageReceipt(tuple(_from_database(page)))
    try:
        receipt = run_with_timeout(
            RECEIPT_TIMEOUT, lambda: build_receipt(page.invoice.pk)
        )
    except (StripeError, UnknownInvoice, InvoiceNotPaid, TimeoutError) as exc:
        logger.warning("no_receipt", error=str(exc) or "timeout")
        return PageReceipt(tuple(_from_database(page)))
    return PageReceipt(
        lines=tuple(receipt_lines(receipt)),
        paid_at=receipt.paid_at,
        proof=receipt.lightning,
        signer=npub(receipt.signed.pubkey),
        signed=json.dumps(receipt.signed.to_dict(), ensure_ascii=False),
    )


def _from_database(page: PaymentPage) -> Iterator[ReceiptLine]:
    """Yield the lines that our own rows provide."""
    invoice = page.invoice
    yield ReceiptLine("Amount", format_amount(page.amount_cents, invoice.currency))
    if page.paid_by and invoice.total_cents > 0:
        yield ReceiptLine("Payment method", _payment_method(invoice.pk, page.paid_by))
    yield ReceiptLine("Invoice", invoice.number or invoice.pk)
    if page.payment:
        yield ReceiptLine("Payment hash", page.payment.payment_hash, is_code=True)


def _payment_method(invoice_id: str, paid_by: str) -> str:
    payer = PaidBy(paid_by)
    if payer == PaidBy.CARD and was_bank_debited(invoice_id):
        return "Bank account"
    return _PAYMENT_METHODS[payer]


def receipt_lines(receipt: Receipt) -> Iterator[ReceiptLine]:
    """Yield the formatted facts of a receipt."""
    if receipt.paid_cents:
        paid = format_amount(receipt.paid_cents, receipt.currency)
        yield ReceiptLine("Amount paid", paid)
    if receipt.credit_cents:
        credit = format_amount(receipt.credit_cents, receipt.currency)
        yield ReceiptLine("Credit applied", credit)
    if receipt.refunded_cents:
        refunded = format_amount(receipt.refunded_cents, receipt.currency)
        yield ReceiptLine("Refunded", refunded)
    if receipt.disputed_cents:
        disputed = format_amount(receipt.disputed_cents, receipt.currency)
        yield ReceiptLine("Taken back by the bank", disputed)
    title = "Date paid" if receipt.paid_cents else "Date"
    yield ReceiptLine(title, at=receipt.paid_at)
    method = _payment_method(receipt.invoice_id, receipt.paid_by)
    yield ReceiptLine("Payment method", method)
    yield ReceiptLine("Invoice", receipt.number or receipt.invoice_id)
    if receipt.lightning:
        yield from _from_proof(receipt, receipt.lightning)


def _from_proof(receipt: Receipt, proof: Proof) -> Iterator[ReceiptLine]:
    if proof.paid_cents != receipt.paid_cents:
        part = format_amount(proof.paid_cents, receipt.currency)
        yield ReceiptLine("Paid with Lightning", part)
    msat = proof.received_msat or proof.amount_msat
    # Received amounts may have fractions of a sat; whole ones are shown without.
    sats = f"{Decimal(msat) / 1000:,f}".removesuffix(".000")
    yield ReceiptLine("Amount in sats", sats)
    rate = format_price(Decimal(proof.rate), receipt.currency)
    yield ReceiptLine("Bitcoin price", rate)
    yield ReceiptLine("Payment hash", proof.payment_hash, is_code=True)
    if proof.preimage:
        yield ReceiptLine("Preimage", proof.preimage, is_code=True)
