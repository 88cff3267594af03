"""Subscriptions and their items."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.clients.stripe.types.fields import (
    optional,
    optional_text,
    read_id,
    read_metadata,
    read_text,
    to_datetime,
)
from billing.clients.stripe.types.lines import TaxRate, read_tax_rates

#: Our own status of a subscription in a list that could not be read.
UNREADABLE = "unreadable"
#: Errors of a reader if a field is missing or of another type.
UNREADABLE_ERRORS = (
    AttributeError,
    LookupError,
    OverflowError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Item:
    id: str
    price: str
    quantity: int | None
    period_start: int = 0
    period_end: int = 0


@dataclass(frozen=True)
class Subscription:
    """A subscription. Until it is canceled, `cancel_reason` is "".

    With a scheduled cancellation `canceled_at` is earlier than `ended_at`.
    `pause_behavior` is that of `pause_collection`, "" without a pause; `paused_at` is
    set while the status is `paused`. `item_terms` are the discounts and tax rates of
    its items.
    """

    id: str
    customer: str
    status: str
    created: int
    collection_method: str
    items: tuple[Item, ...]
    metadata: Mapping[str, str]
    cancel_reason: str
    canceled_at: int | None = None
    latest_invoice: str = ""
    ended_at: int | None = None
    pause_behavior: str = ""
    pause_resumes_at: int | None = None
    paused_at: int | None = None
    discounts: tuple[str, ...] = ()
    default_tax_rates: tuple[TaxRate, ...] = ()
    item_terms: tuple[str, ...] = ()


def read_subscription(found: Any) -> Subscription:
    """Read a subscription. Raises ValueError if it does not show all of its items.

    Without the others it would look as if it had to be changed, or had not.
    """
    if optional(found, "items", "has_more"):
        raise ValueError(f"{found.id} has more items than Stripe shows")
    items = tuple(
        Item(
            id=item.id,
            price=item.price.id,
            quantity=optional(item, "quantity"),
            period_start=optional(item, "current_period_start") or 0,
            period_end=optional(item, "current_period_end") or 0,
        )
        for item in found.items.data
    )
    return Subscription(
        id=found.id,
        customer=read_id(found.customer),
        status=found.status,
        created=found.created,
        collection_method=found.collection_method,
        items=items,
        metadata=read_metadata(found),
        cancel_reason=optional_text(found, "cancellation_details", "reason"),
        canceled_at=optional(found, "canceled_at"),
        latest_invoice=read_id(optional(found, "latest_invoice")),
        ended_at=optional(found, "ended_at"),
        pause_behavior=optional_text(found, "pause_collection", "behavior"),
        pause_resumes_at=optional(found, "pause_collection", "resumes_at"),
        paused_at=optional(found, "status_details", "paused", "transitioned_at"),
        discounts=tuple(map(read_id, optional(found, "discounts") or ())),
        default_tax_rates=read_tax_rates(optional(found, "default_tax_rates")),
        item_terms=tuple(
            read_id(term)
            for item in found.items.data
            for name in ("discounts", "tax_rates")
            for term in optional(item, name) or ()
        ),
    )


def read_listed_subscription(found: Any) -> Subscription:
    """Return a subscription of the list of all, as UNREADABLE if it cannot be read.

    One of them must not keep the others from being compared.
    """
    try:
        for name in ("id", "status", "collection_method"):
            read_text(found, name)
        subscription = read_subscription(found)
        to_datetime(subscription.pause_resumes_at)
        to_datetime(subscription.paused_at)
        return subscription
    except UNREADABLE_ERRORS:
        return Subscription(
            id=read_text(found, "id"),
            customer=read_id(found.customer),
            status=UNREADABLE,
            created=int(found.created),
            collection_method="",
            items=(),
            metadata={},
            cancel_reason="",
        )
