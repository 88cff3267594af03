"""Content of the payment page besides its state: lines, quote, QR code and receipt.

Lines, quote and receipt may need Stripe or an exchange. The page is shown without them
when they do not answer in time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import structlog
from django.conf import settings

from billing.clients.stripe.errors import StripeError
from billing.exceptions import UnknownInvoice
from billing.money import format_amount
from billing.services.invoice_views.invoices import (
    InvoiceDetails,
    InvoiceLine,
    get_invoice,
)
from billing.services.payment_page.page import PageState, PaymentPage
from billing.services.payment_page.qr import qr_svg
from billing.services.payment_page.quote import QuotePreview, preview_quote
from billing.services.payment_page.receipt import PageReceipt, page_receipt
from billing.services.payment_page.saved_card import SavedCard, saved_card
from billing.services.payment_page.timeouts import run_with_timeout
from relays.services.history import RelayHistory

logger = structlog.get_logger(__name__)

#: Seconds that the page waits for Stripe's lines of an invoice that is not cached.
STRIPE_TIMEOUT = 2.0
#: Relays that a line names.
_MAX_HOSTS = 5
_QUOTED = {PageState.OPEN, PageState.OVERDUE, PageState.WRITTEN_OFF}


@dataclass(frozen=True)
class PageLine:
    """Formatted line of the invoice, or a sum below its lines.

    `relays` has the host names of the relays that the line is for, if they are known.
    """

    title: str
    amount: str
    note: str = ""
    relays: str = ""


@dataclass(frozen=True)
class PageDetails:
    """Content of the page; `lines` and `card` may be missing.

    `qr` is an SVG element, "" without an open bolt11. `card` is charged next; without
    one, `useless_card` names a card that is saved.
    """

    quote: QuotePreview
    qr: str = ""
    lines: tuple[PageLine, ...] = ()
    sums: tuple[PageLine, ...] = ()
    receipt: PageReceipt | None = None
    card: SavedCard | None = None
    useless_card: str = ""


def page_details(page: PaymentPage, *, was_card_added: bool = False) -> PageDetails:
    """Return the page's content besides its state, waiting a few seconds at most.

    `was_card_added` if the payer comes back from adding a card.
    """
    invoice = _get_invoice(page)
    card = saved_card(page, was_just_added=was_card_added)
    return PageDetails(
        quote=_quote(page),
        qr=qr_svg(page.open_bolt11.bolt11) if page.open_bolt11 else "",
        lines=tuple(page_lines(invoice)) if invoice else (),
        sums=tuple(_sums(page, invoice)) if invoice else (),
        receipt=page_receipt(page),
        card=card if card and card.is_charged else None,
        useless_card=card.name if card and not card.is_charged else "",
    )


def _quote(page: PaymentPage) -> QuotePreview:
    can_reissue = page.state == PageState.OFFER_EXPIRED and not page.reissue_at
    if page.state not in _QUOTED and not can_reissue:
        return QuotePreview()
    return preview_quote(amount_cents=page.amount_cents, currency=page.invoice.currency)


def _get_invoice(page: PaymentPage) -> InvoiceDetails | None:
    try:
        return run_with_timeout(STRIPE_TIMEOUT, lambda: get_invoice(page.invoice.pk))
    except (StripeError, UnknownInvoice, TimeoutError) as exc:
        logger.warning("no_lines", error=str(exc) or "timeout")
        return None


def page_lines(invoice: InvoiceDetails) -> Iterator[PageLine]:
    """Yield the formatted lines of an invoice, with the relays that they are for."""
    starts = [line.period_start for line in invoice.lines]
    until = max(starts, default=invoice.created_at)
    history = RelayHistory(invoice.tenant_pubkey, until=until)
    for line in invoice.lines:
        relays = history.billed(
            plan_id=line.plan_id, quantity=line.quantity, at=line.period_start
        )
        yield _line(line, invoice.currency, relays)


def _line(line: InvoiceLine, currency: str, relays: Sequence[str] = ()) -> PageLine:
    description = line.description or f"{line.quantity} × {line.plan} relay"
    # Stripe's own descriptions read "1 × Relay (at $5.00 / month)".
    title, _, price = description.partition(" (at ")
    price = price.removesuffix(")")
    period = f"{line.period_start:%-d %b} – {line.period_end:%-d %b %Y}"
    note = f"{price} · {period}" if price else period
    amount = format_amount(line.amount_cents, currency)
    return PageLine(title, amount, note, _join_hosts(relays))


def _join_hosts(subdomains: Sequence[str]) -> str:
    """Return the relays' host names, or the first few and how many more there are."""
    shown = [f"{name}.{settings.RELAY_DOMAIN}" for name in subdomains[:_MAX_HOSTS]]
    more = len(subdomains) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _sums(page: PaymentPage, invoice: InvoiceDetails) -> Iterator[PageLine]:
    """Yield the total and the amount due, where they say more than the lines."""
    due_cents = page.amount_cents if page.is_payable else invoice.total_cents
    reduction_cents = due_cents - invoice.total_cents
    total = format_amount(invoice.total_cents, invoice.currency)
    if len(invoice.lines) > 1 or reduction_cents:
        yield PageLine("Total", total)
    if reduction_cents:
        reduction = format_amount(reduction_cents, invoice.currency)
        yield PageLine("Credits and payments", reduction)
        yield PageLine("Amount due", format_amount(due_cents, page.invoice.currency))
    if refunded_cents := invoice.collection and invoice.collection.refunded_cents:
        yield PageLine("Refunded", format_amount(refunded_cents, invoice.currency))
