"""What a payment page shows besides how its invoice stands.

Some of it takes others to answer; the page does without what does not come quickly.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from billing.exceptions import StripeError, UnknownInvoice
from billing.money import format_amount
from billing.services.invoice_views.invoices import InvoiceView, LineView, get_invoice
from billing.services.payment_page.page import PageState, PaymentPage
from billing.services.payment_page.qr import qr_svg
from billing.services.payment_page.quote import QuotePreview, estimate
from billing.services.payment_page.receipt import PageReceipt, page_receipt
from billing.services.payment_page.timeouts import run_with_timeout

logger = structlog.get_logger(__name__)

#: Seconds that a page waits for Stripe's lines of an invoice, if they are not at hand.
PATIENCE = 2.0
_ASKING = {PageState.OPEN, PageState.OVERDUE, PageState.WRITTEN_OFF}


@dataclass(frozen=True)
class PageLine:
    """A line of the invoice, or a sum under its lines, in words."""

    title: str
    amount: str
    note: str = ""


@dataclass(frozen=True)
class PageDetails:
    """`qr` is an SVG element, "" where nothing is on offer; `lines` may be unknown."""

    estimate: QuotePreview
    qr: str = ""
    lines: tuple[PageLine, ...] = ()
    sums: tuple[PageLine, ...] = ()
    receipt: PageReceipt | None = None


def page_details(page: PaymentPage) -> PageDetails:
    """Return what is shown of an invoice beside its state."""
    view = _view(page)
    return PageDetails(
        estimate=_estimate(page),
        qr=qr_svg(page.offer.bolt11) if page.is_offered and page.offer else "",
        lines=tuple(_line(line, view.currency) for line in view.lines) if view else (),
        sums=tuple(_sums(page, view)) if view else (),
        receipt=page_receipt(page),
    )


def _estimate(page: PaymentPage) -> QuotePreview:
    is_expired = page.state == PageState.OFFER_EXPIRED and not page.fresh_at
    if page.state not in _ASKING and not is_expired:
        return QuotePreview()
    return estimate(amount_cents=page.amount_cents, currency=page.invoice.currency)


def _view(page: PaymentPage) -> InvoiceView | None:
    """Return what Stripe says is billed, None if it does not say so now."""
    try:
        return run_with_timeout(PATIENCE, lambda: get_invoice(page.invoice.pk))
    except (StripeError, UnknownInvoice, TimeoutError) as exc:
        logger.warning("no_lines", error=str(exc) or "it takes too long")
        return None


def _line(line: LineView, currency: str) -> PageLine:
    described = line.description or f"{line.quantity} × {line.plan} relay"
    title, _, price = described.partition(" (at ")
    price = price.removesuffix(")")
    period = f"{line.period_start:%-d %b} – {line.period_end:%-d %b %Y}"
    note = f"{price} · {period}" if price else period
    return PageLine(title, format_amount(line.amount_cents, currency), note)


def _sums(page: PaymentPage, view: InvoiceView) -> Iterator[PageLine]:
    """Return what the lines come to, and what of it is not asked for any more."""
    asked = page.amount_cents if page.is_payable else view.total_cents
    written = format_amount(view.total_cents, view.currency)
    if len(view.lines) > 1 or asked != view.total_cents:
        yield PageLine("Total", written)
    if asked != view.total_cents:
        less = format_amount(asked - view.total_cents, view.currency)
        yield PageLine("Credit, and what is paid", less)
        yield PageLine("To pay", page.amount)
