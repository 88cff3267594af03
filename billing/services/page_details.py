"""What a payment page shows besides how its invoice stands.

Some of it takes others to answer; the page does without what does not come quickly.
"""

from dataclasses import dataclass

from billing.services.estimates import Estimate, estimate
from billing.services.pages import InvoicePage, PageState
from billing.services.qr import qr_svg


@dataclass(frozen=True)
class PageLine:
    """A line of the invoice, in words."""

    title: str
    note: str
    amount: str


@dataclass(frozen=True)
class PageDetails:
    """`qr` is an SVG element, "" where nothing is on offer."""

    estimate: Estimate
    qr: str = ""
    lines: tuple[PageLine, ...] = ()
    total: str = ""


def page_details(page: InvoicePage) -> PageDetails:
    """Return what is shown of an invoice beside its state."""
    return PageDetails(estimate=_estimate(page), qr=_qr(page))


def _estimate(page: InvoicePage) -> Estimate:
    asking = {PageState.OPEN, PageState.OVERDUE, PageState.WRITTEN_OFF}
    expired = page.state == PageState.OFFER_EXPIRED and not page.fresh_at
    if page.state not in asking and not expired:
        return Estimate()
    return estimate(amount_cents=page.amount_cents, currency=page.invoice.currency)


def _qr(page: InvoicePage) -> str:
    return qr_svg(page.offer.bolt11) if page.is_offered and page.offer else ""
