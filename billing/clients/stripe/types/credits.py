"""Credit notes, and changes of a customer's balance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.clients.stripe.types.fields import optional, read_id, read_metadata


@dataclass(frozen=True)
class CreditNote:
    """A credit note; `refunds` are the ids of the refunds that it includes."""

    id: str
    amount: int
    status: str
    metadata: Mapping[str, str]
    refunds: tuple[str, ...] = ()


@dataclass(frozen=True)
class BalanceTransaction:
    """A change of a customer's balance; a negative amount is credit."""

    id: str
    amount: int
    metadata: Mapping[str, str]


def read_credit_note(found: Any) -> CreditNote:
    included = optional(found, "refunds") or ()
    return CreditNote(
        id=found.id,
        amount=found.amount,
        status=found.status,
        metadata=read_metadata(found),
        refunds=tuple(read_id(optional(each, "refund")) for each in included),
    )


def read_balance_transaction(found: Any) -> BalanceTransaction:
    return BalanceTransaction(found.id, found.amount, read_metadata(found))
