"""Caches Stripe invoices for 30 s, and for an hour as a fallback.

A change that Caravel learns of replaces an epoch key. Entries written under an older
epoch are ignored, including those of readers that asked Stripe just before the change.
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
from billing.clients.stripe.errors import StripeNotExecuted, StripeUnavailable
from billing.clients.stripe.types import InvoicePayment, PaymentIntent
from caravel.core import cache

logger = structlog.get_logger(__name__)

FRESH_FOR = timedelta(seconds=30)
#: Seconds that entries are kept as a fallback while Stripe is unavailable, and epochs.
_STALE_TTL = 3600
#: Part of the key: a version of Caravel that reads other fields ignores these entries.
_SCHEMA_HASH = sha256(
    ",".join(
        field.name
        for cls in (Invoice, InvoicePayment, Line, PaymentIntent)
        for field in fields(cls)
    ).encode()
).hexdigest()[:12]


@dataclass(frozen=True)
class CachedInvoices:
    """Invoices as Stripe had them at `fetched_at`."""

    invoices: tuple[Invoice, ...]
    fetched_at: datetime


def get_or_fetch(key: str, fetch: Callable[[], Iterable[Invoice]]) -> CachedInvoices:
    """Return invoices by customer or invoice id, from the cache while it is fresh.

    If Stripe is unavailable, returns a stale entry; without one, raises the error of
    `fetch`.
    """
    values = cache.get_many([_entry_key(key), _epoch_key(key)])
    entry, epoch = values.get(_entry_key(key)), values.get(_epoch_key(key), "")
    now = timezone.now()
    # In both directions: a clock may be set back, and another host's may be ahead.
    if entry and entry["mark"] == epoch and abs(now - _fetched_at(entry)) < FRESH_FOR:
        return _deserialize(entry)
    try:
        fetched = CachedInvoices(tuple(fetch()), now)
    except (StripeUnavailable, StripeNotExecuted) as exc:
        if not entry:
            raise
        logger.warning("stripe_away", error=str(exc), answer_of=entry["asked_at"])
        return _deserialize(entry)
    # Under the epoch from before the fetch: a change during it makes this entry stale.
    cache.set(_entry_key(key), _serialize(fetched, epoch), seconds=_STALE_TTL)
    return fetched


def invalidate(customer_id: str, invoice_id: str) -> None:
    """Make the entries of an invoice and of its customer stale.

    Call it when the change is committed.
    """
    epoch = uuid.uuid4().hex
    epochs = {_epoch_key(key): epoch for key in (customer_id, invoice_id)}
    cache.set_many(epochs, seconds=_STALE_TTL)


def _serialize(cached: CachedInvoices, epoch: str) -> dict[str, Any]:
    return {
        "invoices": [asdict(invoice) for invoice in cached.invoices],
        "asked_at": cached.fetched_at.timestamp(),
        "mark": epoch,
    }


def _deserialize(entry: dict[str, Any]) -> CachedInvoices:
    invoices = tuple(map(_deserialize_invoice, entry["invoices"]))
    return CachedInvoices(invoices, _fetched_at(entry))


def _deserialize_invoice(values: dict[str, Any]) -> Invoice:
    lines = tuple(Line(**line) for line in values["lines"])
    intents, payments = values["intents"], values["payments"]
    if intents is not None:
        intents = tuple(PaymentIntent(**intent) for intent in intents)
    if payments is not None:
        payments = tuple(InvoicePayment(**payment) for payment in payments)
    lists = {"lines": lines, "intents": intents, "payments": payments}
    return Invoice(**{**values, **lists})


def _fetched_at(entry: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(entry["asked_at"], UTC)


def _entry_key(key: str) -> str:
    return f"invoices:{_SCHEMA_HASH}:{key}"


def _epoch_key(key: str) -> str:
    return f"invoices-changed:{key}"
