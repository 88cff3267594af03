"""Asking our wallet about what a person looks at, often but not too often."""

from datetime import timedelta

import structlog
from django.utils import timezone
from limits import RateLimitItem, parse

from billing.services.payment_page.page import PageState, PaymentPage, invoice_page
from caravel.core.rate_limit import delay_after_hit
from caravel.core.web.throttling import Overloaded, concurrency_limit
from lightning.models import LightningInvoice
from lightning.services.invoice_status import check_invoice

logger = structlog.get_logger(__name__)

#: Seconds that our wallet has for an answer while a person waits for ours.
PATIENCE = 3.0
#: How often it is asked about one bolt11, over all processes.
_ON_OFFER = parse("1 per 2 second")
#: While it is silent, or when the bolt11 has expired.
_SELDOM = parse("1 per 10 second")
_ASKED = (PageState.OFFERED, PageState.WALLET_DOWN, PageState.OFFER_EXPIRED)


def refresh_page(invoice_id: str, *, visitor: str = "") -> PaymentPage:
    """Return the page as it is once our wallet was asked, if that is of any use now.

    `visitor` is on whose behalf it is asked. Raises UnknownInvoice. A wallet that is
    silent is what the page says then.
    """
    page = invoice_page(invoice_id)
    if page.offer is None or page.state not in _ASKED:
        return page
    rate = _ON_OFFER if page.state == PageState.OFFERED else _SELDOM
    if _is_fresh(page.offer, rate):
        return page
    if delay_after_hit(rate, "lookup", str(page.offer.pk)):
        return page
    try:
        with concurrency_limit(visitor):
            check_invoice(invoice_id=page.offer.pk, patience=PATIENCE)
    except Overloaded:
        logger.info("lookup_left_out", payment_hash=page.offer.payment_hash)
        return page
    return invoice_page(invoice_id)


def _is_fresh(offer: LightningInvoice, rate: RateLimitItem) -> bool:
    """Return whether our wallet has answered just now, whoever asked.

    So it is not overrun while Redis is away, which else keeps count of the rate.
    """
    pause = timedelta(seconds=rate.get_expiry())
    return bool(offer.answered_at and abs(timezone.now() - offer.answered_at) < pause)
