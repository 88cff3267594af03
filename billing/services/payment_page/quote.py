"""Approximate amount in sats, before a bolt11 is issued."""

from dataclasses import dataclass

import structlog

from billing.services.payment_page.timeouts import run_with_timeout
from lightning.exceptions import RateUnavailable
from lightning.services.rates import quote

logger = structlog.get_logger(__name__)

#: Seconds that the page waits for an exchange rate that is not cached.
QUOTE_TIMEOUT = 1.5


@dataclass(frozen=True)
class QuotePreview:
    """`sats` is None while the rate is loading; `unavailable` when there is none."""

    sats: int | None = None
    unavailable: bool = False

    @property
    def formatted_sats(self) -> str:
        return f"{self.sats:,}" if self.sats else ""


def preview_quote(*, amount_cents: int, currency: str) -> QuotePreview:
    """Return the approximate amount in sats, waiting at most QUOTE_TIMEOUT."""
    try:
        price = run_with_timeout(
            QUOTE_TIMEOUT, lambda: quote(amount_cents=amount_cents, currency=currency)
        )
    except RateUnavailable as exc:
        logger.warning("no_estimate", error=exc.message)
        return QuotePreview(unavailable=True)
    except TimeoutError:
        return QuotePreview()
    return QuotePreview(sats=price.amount_msat // 1000)
