"""The cells of the table: an event, and all that it may meet."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import product
from typing import Any


class Event(StrEnum):
    CREATED = "invoice.created"
    FINALIZED = "invoice.finalized"
    PAID = "invoice.paid"
    PAYMENT_FAILED = "invoice.payment_failed"
    OVERDUE = "invoice.overdue"
    VOIDED = "invoice.voided"
    WRITTEN_OFF = "invoice.marked_uncollectible"
    UPDATED = "customer.subscription.updated"
    ENDED = "customer.subscription.deleted"
    ATTACHED = "payment_method.attached"
    DETACHED = "payment_method.detached"
    CUSTOMER_DELETED = "customer.deleted"

    @property
    def is_of_invoice(self) -> bool:
        return self.value.startswith("invoice.")


class Bill(StrEnum):
    """What Stripe says of the invoice; that it is open or a draft is all we know."""

    DRAFT = "draft"
    OPEN = "open"
    CREDITED = "reduced to nothing by a note"
    BY_CARD = "paid by a card that we charged"
    MARKED = "paid out of band, by our mark"
    ON_PAGE = "paid on Stripe's page"
    VOID = "void"
    WRITTEN_OFF = "uncollectible"


class Attempt(StrEnum):
    NONE = "no attempt"
    UNSENT = "a wallet, not asked yet"
    SENT = "a wallet that was asked"
    WALLET_REFUSED = "a wallet that refused"
    ARRIVED = "a wallet that paid, not booked yet"
    CARD_ASKED = "a card without an answer"
    CARD_REFUSED = "a card that was refused"
    ACTION = "a card whose owner must act"
    MARKING = "a payment that is being booked"


class Offer(StrEnum):
    NONE = "no bolt11"
    SHOWN = "a bolt11 shown"
    ASKED = "a bolt11 under the attempt"
    EXPIRED = "a bolt11 expired and watched"


class Payer(StrEnum):
    """What the tenant can be charged by now."""

    NONE = "nothing"
    WALLET = "wallet"
    CARD = "card"
    BOTH = "wallet and card"

    @property
    def has_wallet(self) -> bool:
        return self in {Payer.WALLET, Payer.BOTH}

    @property
    def has_card(self) -> bool:
        return self in {Payer.CARD, Payer.BOTH}


class Plan(StrEnum):
    """Of the invoice and of the event: is their subscription the tenant's?"""

    CURRENT = "current"
    OLD = "old: the tenant has another"
    GONE = "gone: ended for non-payment, the relays are off"


class Barred(StrEnum):
    """Why there is no such cell."""

    EARLY = "Stripe tells of a draft that it was created, and no more"
    DRAFT = "a draft takes no payment"
    FINAL = "the end of a subscription finalizes its drafts"
    OWN_BOLT11 = "a wallet is asked to pay a bolt11"
    TWO_OPEN = "of an invoice one bolt11 is open"
    SHOWN_FIRST = "no wallet is asked while a person may pay"
    UNDER_NOTHING = "only a wallet that was asked has one under way"
    CARD_ALONE = (
        "no card is charged while a person may pay, and nothing shown meanwhile"
    )
    CARD_SECOND = "no card is charged while a wallet has been asked"


@dataclass(frozen=True)
class Cell:
    event: Event
    bill: Bill
    attempt: Attempt
    offer: Offer
    payer: Payer
    plan: Plan

    def __str__(self) -> str:
        return " | ".join(str(getattr(self, each.name)) for each in fields(self))

    @property
    def values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, each.name) for each in fields(self))


ASKED = {Attempt.UNSENT, Attempt.SENT}
#: Nothing is known of their outcome.
PENDING = ASKED | {Attempt.CARD_ASKED, Attempt.MARKING}


def barred(cell: Cell) -> Barred | None:
    """Return why a cell cannot be, None if it can."""
    return _barred_draft(cell) or _barred_bolt11(cell) or _barred_card(cell)


def all_cells() -> Iterator[Cell]:
    """Return all cells, those that cannot be among them."""
    dimensions = (Event, Bill, Attempt, Offer, Payer, Plan)
    return (Cell(*values) for values in product(*dimensions))


def reachable() -> list[Cell]:
    """Return the cells that can be."""
    return [cell for cell in all_cells() if barred(cell) is None]


def _barred_draft(cell: Cell) -> Barred | None:
    if cell.bill != Bill.DRAFT:
        return None
    if cell.plan != Plan.CURRENT:
        return Barred.FINAL
    if (cell.attempt, cell.offer) != (Attempt.NONE, Offer.NONE):
        return Barred.DRAFT
    # An event may come late, never before what it tells of.
    is_early = cell.event.is_of_invoice and cell.event != Event.CREATED
    return Barred.EARLY if is_early else None


def _barred_bolt11(cell: Cell) -> Barred | None:
    if cell.attempt in ASKED:
        without = {
            Offer.NONE: Barred.OWN_BOLT11,
            Offer.SHOWN: Barred.TWO_OPEN,
            Offer.EXPIRED: Barred.SHOWN_FIRST,
        }
        return without.get(cell.offer)
    return Barred.UNDER_NOTHING if cell.offer == Offer.ASKED else None


def _barred_card(cell: Cell) -> Barred | None:
    """A card is charged when no person and no wallet may pay: shown, or asked."""
    is_charged = cell.attempt == Attempt.CARD_ASKED or cell.bill == Bill.BY_CARD
    if not is_charged:
        return None
    if cell.attempt in ASKED:
        return Barred.CARD_SECOND
    # What expired after a refusal was never shown: nobody else can pay it.
    refused = cell.attempt == Attempt.WALLET_REFUSED and cell.offer == Offer.EXPIRED
    return None if cell.offer == Offer.NONE or refused else Barred.CARD_ALONE
