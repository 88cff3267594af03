"""Prices, discounts and coupons."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.clients.stripe.types.fields import (
    optional,
    optional_text,
    read_id,
    read_metadata,
)


@dataclass(frozen=True)
class Price:
    """A price. It is `active` if neither it nor its product is archived.

    `interval` is "" for a price that does not recur every day, week, month or year.
    """

    id: str
    active: bool
    currency: str
    unit_amount: int | None
    interval: str


@dataclass(frozen=True)
class Discount:
    """A redeemed coupon. `end` is None if it goes on forever, or for one invoice."""

    id: str
    coupon: str
    end: int | None


@dataclass(frozen=True)
class Coupon:
    """A coupon; `terms` are the parameters that give the same discount."""

    id: str
    duration: str
    valid: bool
    metadata: Mapping[str, str]
    terms: Mapping[str, Any]


def read_price(found: Any) -> Price:
    """Return a price whose product is expanded."""
    is_single = optional(found, "recurring", "interval_count") == 1
    return Price(
        id=found.id,
        active=bool(found.active and optional(found, "product", "active")),
        currency=found.currency,
        unit_amount=optional(found, "unit_amount"),
        interval=optional_text(found, "recurring", "interval") if is_single else "",
    )


def read_discounts(found: Any) -> list[Discount]:
    """Return the discounts of a subscription; they have to be expanded."""
    return [
        Discount(
            each.id, read_id(optional(each, "source", "coupon")), optional(each, "end")
        )
        for each in found.discounts
    ]


def read_coupon(found: Any) -> Coupon:
    """Return a coupon; what it applies to has to be expanded."""
    terms = {name: optional(found, name) for name in ("amount_off", "currency", "name")}
    percent = optional(found, "percent_off")
    terms["percent_off"] = None if percent is None else float(percent)
    products = optional(found, "applies_to", "products")
    terms["applies_to"] = {"products": list(products)} if products else None
    return Coupon(
        id=found.id,
        duration=found.duration,
        valid=found.valid,
        metadata=read_metadata(found),
        terms={name: value for name, value in terms.items() if value is not None},
    )
