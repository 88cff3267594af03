"""The requests that one of our own wallets may get in a minute, over all processes.

Some wallet services answer RATE_LIMITED beyond 60 a minute. People come first: they may
use all of ROBOT_WALLET_REQUESTS_PER_MINUTE, background work only a part of it.
"""

from enum import Enum
from fractions import Fraction

import structlog
from django.conf import settings
from limits import RateLimitItemPerMinute

from caravel.core.rate_limit import NamedRate, allowed_hits, hit_up_to

logger = structlog.get_logger(__name__)

#: After RATE_LIMITED there is no background work for a minute.
_PAUSE = RateLimitItemPerMinute(1)


class Share(Enum):
    """The part of a wallet's requests that a kind of work may use.

    A request also counts towards each larger part.
    """

    #: Open payment pages: each looks its invoice up every few seconds.
    PAGE = Fraction(1, 3)
    #: Polls. They leave requests for new invoices, which they would else use up.
    POLL = Fraction(1, 2)
    #: Other work without a person who waits, such as invoices for tenants' wallets.
    BACKGROUND = Fraction(2, 3)
    #: A person who waits, or a payment that was notified.
    PERSON = Fraction(1)


class Pace:
    """The pace of requests to one wallet for one kind of work."""

    def __init__(self, wallet_pubkey: str, share: Share) -> None:
        self._pubkey = wallet_pubkey
        self._share = share

    def allowed(self, wanted: int) -> int:
        """Return how many requests, up to `wanted`, may be sent now."""
        return 0 if self._is_paused() else allowed_hits(wanted, self._rates())

    def take(self, wanted: int) -> int:
        """Count as many requests, up to `wanted`, as may be sent now; return them."""
        return 0 if self._is_paused() else hit_up_to(wanted, self._rates())

    def pause(self) -> None:
        """Stop background work for a minute: the wallet has answered RATE_LIMITED."""
        if hit_up_to(1, [self._pause_rate()]):
            logger.warning("own_wallet_rate_limited", wallet=self._pubkey)

    def _is_paused(self) -> bool:
        if self._share is Share.PERSON:
            return False
        return allowed_hits(1, [self._pause_rate()]) == 0

    def _rates(self) -> list[NamedRate]:
        """Return the rate limits of this share and of all larger ones."""
        total = settings.ROBOT_WALLET_REQUESTS_PER_MINUTE
        return [
            (
                RateLimitItemPerMinute(int(total * share.value)),
                f"wallet-{share.name}:{self._pubkey}",
            )
            for share in Share
            if share.value >= self._share.value
        ]

    def _pause_rate(self) -> NamedRate:
        return _PAUSE, f"wallet-pause:{self._pubkey}"
