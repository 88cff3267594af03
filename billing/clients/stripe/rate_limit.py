"""The rate of requests to Stripe, shared by all workers on all hosts.

Requests take turns: each waits once, for as long as it takes until its own turn, so
that hundreds of waiting threads cost nothing and none is passed over. People have turns
of their own, and do not wait behind the collection of a month's invoices. They also get
each turn of the background's that nobody waits for.
"""

import time
from collections.abc import Callable
from enum import Enum
from fractions import Fraction

from django.conf import settings

from billing.clients.stripe.errors import StripeRateLimited
from caravel.core.rate_limit import take_turn

#: Seconds that a call waits; if its turn comes later, its task is retried later.
MAX_WAIT = 15.0
#: The same for a call for which a person waits.
INTERACTIVE_MAX_WAIT = 5.0


class Share(Enum):
    """The part of the requests that a kind of work may use."""

    PERSON = Fraction(1, 5)
    BACKGROUND = Fraction(4, 5)


def acquire(
    *,
    interactive: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Take one request from the rate limit, waiting for its turn.

    Raises StripeRateLimited if that is too far ahead. Without Redis there is no limit:
    Stripe's own 429 still applies, and no rate limit of ours is worth an outage.
    """
    if interactive and _take(Share.BACKGROUND, max_wait=0.0) == 0:
        return
    share = Share.PERSON if interactive else Share.BACKGROUND
    max_wait = _longest_wait(share)
    delay = _take(share, max_wait=max_wait)
    if delay > max_wait:
        raise StripeRateLimited(
            "Too many requests to Stripe are waiting.", retry_after=delay
        )
    if delay:
        sleep(delay)


def _take(share: Share, *, max_wait: float) -> float:
    return take_turn(
        f"stripe-{share.name}",
        per_second=float(settings.STRIPE_MAX_REQUESTS_PER_SECOND * share.value),
        max_wait=max_wait,
        longest_wait=_longest_wait(share),
    )


def _longest_wait(share: Share) -> float:
    return INTERACTIVE_MAX_WAIT if share is Share.PERSON else MAX_WAIT
