"""Looking up an open page's bolt11 in our wallet, within rate limits."""

from datetime import timedelta

import structlog
from django.utils import timezone
from limits import RateLimitItem, parse

from billing.services.payment_page.page import PageState, PaymentPage, get_page
from caravel.core.rate_limit import delay_after_hit
from caravel.core.web.throttling import Overloaded, concurrency_limit
from lightning.clients.pace import Share
from lightning.models import LightningInvoice
from lightning.services.invoice_status import check_invoice

logger = structlog.get_logger(__name__)

#: Seconds that our wallet has to answer while a payer waits.
WALLET_TIMEOUT = 3.0
#: Look-ups of one bolt11, over all processes.
_OPEN_RATE = parse("1 per 2 second")
#: The same while our wallet is down, or after the bolt11 has expired.
_SLOW_RATE = parse("1 per 10 second")
_LOOKED_UP = (PageState.OFFERED, PageState.WALLET_DOWN, PageState.OFFER_EXPIRED)


def refresh_page(invoice_id: str, *, visitor: str = "") -> PaymentPage:
    """Look up the page's bolt11 in our wallet if it is due, and return the page.

    `visitor` is the key of the concurrency limit. Raises UnknownInvoice. If our wallet
    does not answer, the page's state becomes WALLET_DOWN.
    """
    page = get_page(invoice_id)
    if page.bolt11 is None or page.state not in _LOOKED_UP:
        return page
    rate = _OPEN_RATE if page.state == PageState.OFFERED else _SLOW_RATE
    if _has_recent_answer(page.bolt11, rate):
        return page
    if delay_after_hit(rate, "lookup", str(page.bolt11.pk)):
        return page
    try:
        with concurrency_limit(visitor):
            check_invoice(
                invoice_id=page.bolt11.pk, timeout=WALLET_TIMEOUT, share=Share.PAGE
            )
    except Overloaded:
        logger.info("lookup_left_out", payment_hash=page.bolt11.payment_hash)
        return page
    return get_page(invoice_id)


def _has_recent_answer(bolt11: LightningInvoice, rate: RateLimitItem) -> bool:
    # While Redis is down the rate limit lets everything through: this row still keeps
    # open pages from flooding our wallet.
    interval = timedelta(seconds=rate.get_expiry())
    answered_at = bolt11.answered_at
    return bool(answered_at and abs(timezone.now() - answered_at) < interval)
