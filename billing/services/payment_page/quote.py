"""About how many sats an invoice asks for, before anything is issued."""

from dataclasses import dataclass

import structlog

from billing.services.payment_page.timeouts import within
from lightning.exceptions import RateUnavailable
from lightning.services.rates import quote

logger = structlog.get_logger(__name__)

#: Seconds that a page waits for a rate that is not at hand.
PATIENCE = 1.5


@dataclass(frozen=True)
class Estimate:
    """`sats` is None while no rate is known; with `is_down` there is none to be had."""

    sats: int | None = None
    is_down: bool = False

    @property
    def written(self) -> str:
        return f"{self.sats:,}" if self.sats else ""


def estimate(*, amount_cents: int, currency: str) -> Estimate:
    """Return what an amount is about, without waiting long for it."""
    try:
        price = within(
            PATIENCE, lambda: quote(amount_cents=amount_cents, currency=currency)
        )
    except RateUnavailable as exc:
        logger.warning("no_estimate", error=exc.message)
        return Estimate(is_down=True)
    except TimeoutError:
        return Estimate()
    return Estimate(sats=price.amount_msat // 1000)
