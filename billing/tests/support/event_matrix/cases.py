"""Cases of the event matrix: a Stripe event and the state in which it arrives."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
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
    PROCESSING = "payment_intent.processing"
    ATTACHED = "payment_method.attached"
    DETACHED = "payment_method.detached"
    CUSTOMER_DELETED = "customer.deleted"
    # What staff, banks and card networks do.
    EDITED = "invoice.updated"
    FINALIZATION_FAILED = "invoice.finalization_failed"
    NOTED = "credit_note.created"
    REFUND_CREATED = "refund.created"
    REFUNDED = "charge.refunded"
    DISPUTED = "charge.dispute.created"
    DISPUTE_WON = "charge.dispute.closed"
    WARNED = "radar.early_fraud_warning.created"
    CUSTOMER_UPDATED = "customer.updated"
    REISSUED = "payment_method.automatically_updated"
    PAUSED = "customer.subscription.paused"
    RESUMED = "customer.subscription.resumed"
    PRICE_UPDATED = "price.updated"

    @property
    def is_invoice_event(self) -> bool:
        return self.value.startswith("invoice.")

    @property
    def is_from_outside(self) -> bool:
        """Return whether staff, banks or card networks have caused it."""
        return self in _FROM_OUTSIDE


_FROM_OUTSIDE = frozenset(list(Event)[list(Event).index(Event.EDITED) :])


#: About a payment that was taken back, or may be.
REVERSALS = {
    Event.REFUND_CREATED,
    Event.REFUNDED,
    Event.DISPUTED,
    Event.DISPUTE_WON,
    Event.WARNED,
}
#: Events after which an act of others on the customer or subscription is refused.
_ENDS = {Event.ENDED, Event.CUSTOMER_DELETED}
_PAUSES = {Event.PAUSED, Event.RESUMED}


def can_occur_in_any_order(first: Event, second: Event) -> bool:
    """Return whether Stripe allows what causes two events in both orders.

    Not two reversals of one charge, and nothing that others do after an end.
    """
    both = {first, second}
    if both & _ENDS and (first.is_from_outside or second.is_from_outside):
        return False
    return not (both <= REVERSALS or both <= _PAUSES)


class InvoiceState(StrEnum):
    """State of the invoice at Stripe; Caravel has last read it as open or draft."""

    DRAFT = "draft"
    OPEN = "open"
    CREDITED = "fully credited by a credit note"
    PAID_BY_CARD = "paid by our card charge"
    MARKED_PAID = "marked as paid out of band by us"
    PAID_ON_PAGE = "paid on Stripe's page"
    VOID = "void"
    UNCOLLECTIBLE = "uncollectible"


class Attempt(StrEnum):
    """Caravel's own payment attempt."""

    NONE = "no attempt"
    WALLET_UNSENT = "wallet request not sent yet"
    WALLET_SENT = "wallet request sent"
    WALLET_REFUSED = "wallet refused"
    WALLET_PAID = "wallet paid, not booked yet"
    CARD_PENDING = "card charge pending"
    CARD_REFUSED = "card declined"
    CARD_ACTION_REQUIRED = "card requires action"
    MARKING = "payer's Lightning payment being booked"


class Bolt11State(StrEnum):
    """A bolt11 for the invoice."""

    NONE = "no bolt11"
    PRESENTED = "bolt11 presented to the payer"
    WITH_WALLET = "bolt11 sent to the wallet"
    EXPIRED = "bolt11 expired, still polled"


class PaymentMethods(StrEnum):
    """Payment methods that the tenant has now."""

    NONE = "no payment method"
    WALLET = "wallet"
    CARD = "card"
    BOTH = "wallet and card"

    @property
    def has_wallet(self) -> bool:
        return self in {PaymentMethods.WALLET, PaymentMethods.BOTH}

    @property
    def has_card(self) -> bool:
        return self in {PaymentMethods.CARD, PaymentMethods.BOTH}


class SubscriptionState(StrEnum):
    """State of the subscription that the invoice and the event belong to."""

    CURRENT = "current"
    REPLACED = "replaced by another"
    ENDED_UNPAID = "ended for non-payment, relays suspended"


class Impossible(StrEnum):
    """Reason why a case cannot occur."""

    EARLY = "an event of a finalized invoice comes after its finalization"
    DRAFT = "a draft cannot be paid"
    FINAL = "ending a subscription finalizes its drafts"
    OWN_BOLT11 = "a wallet attempt has a bolt11"
    TWO_OPEN = "an invoice has at most one open bolt11"
    PRESENTED_FIRST = "no wallet attempt while a presented bolt11 may be paid"
    WITHOUT_WALLET = "only a pending wallet attempt has a bolt11 with the wallet"
    CARD_AND_BOLT11 = "no card charge while a bolt11 may be paid, nor the reverse"
    CARD_AND_WALLET = "no card charge while a wallet attempt is pending"
    FINALIZED = "only a draft can be refused finalization"
    UNCHARGED = "only a card payment is refunded, disputed or warned of"
    UNCREDITABLE = "credit notes are for open and paid invoices, up to their total"
    CARDLESS = "without a card none becomes the default or is replaced"
    NOT_PAUSED = "a subscription that has ended is neither paused nor resumed"


@dataclass(frozen=True)
class Case:
    event: Event
    invoice: InvoiceState
    attempt: Attempt
    bolt11: Bolt11State
    methods: PaymentMethods
    subscription: SubscriptionState

    def __str__(self) -> str:
        return " | ".join(str(getattr(self, each.name)) for each in fields(self))

    @property
    def values(self) -> tuple[Any, ...]:
        # Not the members: their hash is computed in Python, again and again.
        return tuple([member.value for member in vars(self).values()])


#: Paid by a card.
CHARGED = {InvoiceState.PAID_BY_CARD, InvoiceState.PAID_ON_PAGE}
CREDITABLE = {InvoiceState.OPEN, InvoiceState.MARKED_PAID, *CHARGED}
#: The wallet may still pay.
WALLET_PENDING = {Attempt.WALLET_UNSENT, Attempt.WALLET_SENT}


def why_impossible(case: Case) -> Impossible | None:
    """Return the reason why a case cannot occur, None if it can."""
    return (
        _impossible_draft(case)
        or _impossible_bolt11(case)
        or _impossible_card(case)
        or _impossible_from_outside(case)
    )


def all_cases() -> Iterator[Case]:
    """Yield all cases, including impossible ones."""
    dimensions = (
        Event,
        InvoiceState,
        Attempt,
        Bolt11State,
        PaymentMethods,
        SubscriptionState,
    )
    return (Case(*values) for values in product(*dimensions))


@cache
def possible_cases() -> list[Case]:
    """Return the cases that can occur."""
    return [case for case in all_cases() if why_impossible(case) is None]


def _impossible_draft(case: Case) -> Impossible | None:
    if case.invoice != InvoiceState.DRAFT:
        return None
    if case.subscription != SubscriptionState.CURRENT:
        return Impossible.FINAL
    if (case.attempt, case.bolt11) != (Attempt.NONE, Bolt11State.NONE):
        return Impossible.DRAFT
    # An event may arrive late, but never before the change that it reports.
    of_a_draft = {Event.CREATED, Event.EDITED, Event.FINALIZATION_FAILED}
    is_early = case.event.is_invoice_event and case.event not in of_a_draft
    return Impossible.EARLY if is_early else None


def _impossible_bolt11(case: Case) -> Impossible | None:
    if case.attempt in WALLET_PENDING:
        reasons = {
            Bolt11State.NONE: Impossible.OWN_BOLT11,
            Bolt11State.PRESENTED: Impossible.TWO_OPEN,
            Bolt11State.EXPIRED: Impossible.PRESENTED_FIRST,
        }
        return reasons.get(case.bolt11)
    return Impossible.WITHOUT_WALLET if case.bolt11 == Bolt11State.WITH_WALLET else None


def _impossible_card(case: Case) -> Impossible | None:
    is_charged = (
        case.attempt == Attempt.CARD_PENDING
        or case.invoice == InvoiceState.PAID_BY_CARD
    )
    if not is_charged:
        return None
    if case.attempt in WALLET_PENDING:
        return Impossible.CARD_AND_WALLET
    # A bolt11 that the wallet refused was never presented: no payer can pay it.
    refused = (
        case.attempt == Attempt.WALLET_REFUSED and case.bolt11 == Bolt11State.EXPIRED
    )
    return (
        None
        if case.bolt11 == Bolt11State.NONE or refused
        else Impossible.CARD_AND_BOLT11
    )


def _impossible_from_outside(case: Case) -> Impossible | None:
    event, invoice = case.event, case.invoice
    is_current = case.subscription == SubscriptionState.CURRENT
    impossible = {
        Impossible.FINALIZED: event == Event.FINALIZATION_FAILED
        and invoice != InvoiceState.DRAFT,
        Impossible.UNCHARGED: event in REVERSALS and invoice not in CHARGED,
        Impossible.UNCREDITABLE: event == Event.NOTED and invoice not in CREDITABLE,
        Impossible.CARDLESS: event in {Event.CUSTOMER_UPDATED, Event.REISSUED}
        and not case.methods.has_card,
        Impossible.NOT_PAUSED: event in {Event.PAUSED, Event.RESUMED}
        and not is_current,
    }
    return next((reason for reason, holds in impossible.items() if holds), None)
