"""About how many sats an invoice asks for, before anything is issued."""

from dataclasses import dataclass

import structlog

from billing.services.payment_page.timeouts import run_with_timeout
from lightning.exceptions import RateUnavailable
from lightning.services.rates import quote

logger = structlog.get_logger(__name__)

#: Seconds that a page waits for a rate that is not at hand.
PATIENCE = 1.5


@dataclass(frozen=True)
class QuotePreview:
    """`sats` is None while no rate is known; `unavailable`: there is none."""

    sats: int | None = None
    unavailable: bool = False

    @property
    def written(self) -> str:
        return f"{self.sats:,}" if self.sats else ""


def estimate(*, amount_cents: int, currency: str) -> QuotePreview:
    """Return what an amount is about, without waiting long for it."""
    try:
        price = run_with_timeout(
            PATIENCE, lambda: quote(amount_cents=amount_cents, currency=currency)
        )
    except RateUnavailable as exc:
        logger.warning("no_estimate", error=exc.message)
        return QuotePreview(unavailable=True)
    except TimeoutError:
        return QuotePreview()
    return QuotePreview(sats=price.amount_msat // 1000)
