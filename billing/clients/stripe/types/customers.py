"""Customers and payment methods."""

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
class Customer:
    """A customer, possibly a deleted one. `default_card` is "" if none is set."""

    id: str
    email: str
    metadata: Mapping[str, str]
    deleted: bool = False
    default_card: str = ""
    name: str = ""


@dataclass(frozen=True)
class Card:
    """A payment method: a card, or a bank account for debits.

    `fingerprint` identifies its number and `expires` is like "2027-03": both change if
    the network replaces a card in place. `brand` and `last4` are for people to read.
    "" if Stripe names none.
    """

    id: str
    created: int
    type: str = "card"
    customer: str = ""
    fingerprint: str = ""
    expires: str = ""
    brand: str = ""
    last4: str = ""

    @property
    def is_bank_account(self) -> bool:
        return self.type not in {"card", "link"}


def read_customer(found: Any) -> Customer:
    return Customer(
        id=found.id,
        email=optional_text(found, "email"),
        metadata=read_metadata(found),
        deleted=bool(optional(found, "deleted")),
        default_card=read_id(
            optional(found, "invoice_settings", "default_payment_method")
        ),
        name=optional_text(found, "name"),
    )


def read_card(found: Any) -> Card:
    details = optional(found, found.type)
    year, month = optional(details, "exp_year"), optional(details, "exp_month")
    return Card(
        id=found.id,
        created=found.created,
        type=found.type,
        customer=read_id(optional(found, "customer")),
        fingerprint=optional_text(details, "fingerprint"),
        expires=f"{year}-{month:02}" if year and month else "",
        brand=optional_text(details, "brand"),
        last4=optional_text(details, "last4"),
    )
