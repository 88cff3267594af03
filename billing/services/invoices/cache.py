"""What Stripe said of invoices, remembered for half a minute.

A change that we learn of makes it old at once, also for who was just asking: each
answer is kept with the mark of the last change from before the question.
"""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import structlog
from django.utils import timezone

from billing.clients.stripe.client import Invoice, Line
from billing.exceptions import StripeRateLimited, StripeUnavailable
from caravel.core import cache

logger = structlog.get_logger(__name__)

FRESH = timedelta(seconds=30)
#: Seconds that an answer is kept for while Stripe is away, and the mark of a change.
_KEEP = 3600
#: A version of ours that reads other fields finds nothing of what this one has kept.
_SHAPE = sha256(
    ",".join(field.name for cls in (Invoice, Line) for field in fields(cls)).encode()
).hexdigest()[:12]


@dataclass(frozen=True)
class CachedInvoices:
    """What Stripe said of invoices, and when it was asked."""

    invoices: tuple[Invoice, ...]
    asked_at: datetime


def get_or_fetch(about: str, ask: Callable[[], Iterable[Invoice]]) -> CachedInvoices:
    """Return what Stripe says of a customer's invoices, or of one, by its id.

    It is asked if the last answer is not fresh any more. While it is away that one is
    returned if it is still there; else raises what asking raises.
    """
    known = cache.get_many([_key(about), _mark(about)])
    kept, mark = known.get(_key(about)), known.get(_mark(about), "")
    now = timezone.now()
    # Either way: clocks are set back, and another host's may be ahead.
    if kept and kept["mark"] == mark and abs(now - _asked_at(kept)) < FRESH:
        return _restored(kept)
    try:
        found = CachedInvoices(tuple(ask()), now)
    except (StripeUnavailable, StripeRateLimited) as exc:
        if not kept:
            raise
        logger.warning("stripe_away", error=str(exc), answer_of=kept["asked_at"])
        return _restored(kept)
    cache.set(_key(about), _plain(found, mark), seconds=_KEEP)
    return found


def invalidate(customer_id: str, invoice_id: str) -> None:
    """Have Stripe asked again about an invoice, and about all of its customer's.

    To be called when a change is committed.
    """
    mark = uuid.uuid4().hex
    marks = {_mark(about): mark for about in (customer_id, invoice_id)}
    cache.set_many(marks, seconds=_KEEP)


def _plain(found: CachedInvoices, mark: str) -> dict[str, Any]:
    return {
        "invoices": [asdict(invoice) for invoice in found.invoices],
        "asked_at": found.asked_at.timestamp(),
        "mark": mark,
    }


def _restored(kept: dict[str, Any]) -> CachedInvoices:
    return CachedInvoices(tuple(map(_invoice, kept["invoices"])), _asked_at(kept))


def _invoice(kept: dict[str, Any]) -> Invoice:
    lines = tuple(Line(**line) for line in kept["lines"])
    return Invoice(**{**kept, "lines": lines})


def _asked_at(kept: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(kept["asked_at"], UTC)


def _key(about: str) -> str:
    return f"invoices:{_SHAPE}:{about}"


def _mark(about: str) -> str:
    return f"invoices-changed:{about}"
