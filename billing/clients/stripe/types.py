"""What we act on of Stripe's objects. Amounts are in the currency's minor unit.

Times are in seconds of the epoch, None where Stripe has none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Customer:
    """A customer, or the tombstone of one that was deleted.

    `default_card` is "" where none was chosen.
    """

    id: str
    email: str
    metadata: Mapping[str, str]
    deleted: bool = False
    default_card: str = ""


@dataclass(frozen=True)
class Card:
    """A payment method that is attached to a customer."""

    id: str
    created: int


@dataclass(frozen=True)
class Item:
    id: str
    price: str
    quantity: int | None


@dataclass(frozen=True)
class Subscription:
    """A subscription; `cancel_reason` is "" and `canceled_at` None until then.

    One that was to end later was cancelled before it ended.
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


@dataclass(frozen=True)
class Line:
    """A line of an invoice, or an item that waits for the next one.

    `description` is for people.
    """

    id: str
    amount: int
    price: str
    quantity: int
    period_start: int
    period_end: int
    proration: bool
    description: str = ""


@dataclass(frozen=True)
class Invoice:
    """An invoice. `lines` are its first ten at most; `has_more_lines` tells.

    `tenant_pubkey` is whom its subscription names, and `subscription` the one that
    made it: both "" for any other invoice. `paid_off_stripe` is only known of an
    invoice that was asked for by itself.
    """

    id: str
    status: str
    customer: str
    subscription: str
    tenant_pubkey: str
    billing_reason: str
    collection_method: str
    auto_advance: bool
    currency: str
    number: str
    hosted_url: str
    total: int
    amount_due: int
    amount_paid: int
    amount_remaining: int
    credited: int
    paid_off_stripe: int
    created: int
    due_at: int | None
    finalized_at: int | None
    lines: tuple[Line, ...]
    metadata: Mapping[str, str]
    paid_at: int | None = None
    has_more_lines: bool = False


@dataclass(frozen=True)
class InvoicePayment:
    """A way an invoice was, or is to be, paid; `intent` is "" if not at Stripe.

    `amount_paid` is 0 until then.
    """

    id: str
    status: str
    intent: str
    amount_paid: int


@dataclass(frozen=True)
class PaymentIntent:
    """How a charge stands; `card` is what it was last tried with."""

    id: str
    status: str
    card: str
    error_code: str
    decline_code: str


@dataclass(frozen=True)
class CreditNote:
    id: str
    amount: int
    status: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class BalanceTransaction:
    """A change of what a customer has with us; a negative amount is credit."""

    id: str
    amount: int
    metadata: Mapping[str, str]


def read_customer(found: Any) -> Customer:
    if getattr(found, "deleted", False):
        return Customer(found.id, "", {}, deleted=True)
    chosen = found.invoice_settings.default_payment_method
    return Customer(
        found.id, found.email or "", _metadata(found), default_card=_id(chosen)
    )


def read_card(found: Any) -> Card:
    return Card(found.id, found.created)


def read_subscription(found: Any) -> Subscription:
    items = tuple(
        Item(item.id, item.price.id, getattr(item, "quantity", None))
        for item in found.items.data
    )
    details = found.cancellation_details
    return Subscription(
        id=found.id,
        customer=_id(found.customer),
        status=found.status,
        created=found.created,
        collection_method=found.collection_method,
        items=items,
        metadata=_metadata(found),
        cancel_reason=(details.reason if details else None) or "",
        canceled_at=found.canceled_at,
        latest_invoice=_id(found.latest_invoice),
        ended_at=found.ended_at,
    )


def read_invoice(found: Any) -> Invoice:
    parent = found.parent.subscription_details if found.parent else None
    named = parent.metadata.to_dict() if parent and parent.metadata else {}
    return Invoice(
        id=found.id,
        status=found.status,
        customer=_id(found.customer),
        subscription=_id(parent.subscription) if parent else "",
        tenant_pubkey=named.get("tenant_pubkey", ""),
        billing_reason=found.billing_reason or "",
        collection_method=found.collection_method,
        auto_advance=bool(found.auto_advance),
        currency=found.currency,
        number=found.number or "",
        hosted_url=found.hosted_invoice_url or "",
        total=found.total,
        amount_due=found.amount_due,
        amount_paid=found.amount_paid,
        amount_remaining=found.amount_remaining,
        credited=found.pre_payment_credit_notes_amount
        + found.post_payment_credit_notes_amount,
        paid_off_stripe=getattr(found, "amount_paid_off_stripe", None) or 0,
        created=found.created,
        due_at=found.due_date,
        finalized_at=found.status_transitions.finalized_at,
        lines=tuple(map(read_line, found.lines.data)),
        metadata=_metadata(found),
        paid_at=found.status_transitions.paid_at,
        has_more_lines=bool(found.lines.has_more),
    )


def read_line(found: Any) -> Line:
    details = found.parent.subscription_item_details if found.parent else None
    return Line(
        id=found.id,
        amount=found.amount,
        price=_price(found),
        quantity=found.quantity or 0,
        period_start=found.period.start,
        period_end=found.period.end,
        proration=bool(details and details.proration),
        description=found.description or "",
    )


def read_pending_item(found: Any) -> Line:
    return Line(
        id=found.id,
        amount=found.amount,
        price=_price(found),
        quantity=found.quantity or 0,
        period_start=found.period.start,
        period_end=found.period.end,
        proration=bool(found.proration),
        description=found.description or "",
    )


def read_invoice_payment(found: Any) -> InvoicePayment:
    intent = _id(found.payment.payment_intent)
    return InvoicePayment(found.id, found.status, intent, found.amount_paid or 0)


def read_payment_intent(found: Any) -> PaymentIntent:
    error = found.last_payment_error
    tried = getattr(error, "payment_method", None) if error else None
    return PaymentIntent(
        id=found.id,
        status=found.status,
        card=_id(found.payment_method) or _id(tried),
        error_code=(getattr(error, "code", None) or "") if error else "",
        decline_code=(getattr(error, "decline_code", None) or "") if error else "",
    )


def read_credit_note(found: Any) -> CreditNote:
    return CreditNote(found.id, found.amount, found.status, _metadata(found))


def read_balance_transaction(found: Any) -> BalanceTransaction:
    return BalanceTransaction(found.id, found.amount, _metadata(found))


def _price(found: Any) -> str:
    details = found.pricing.price_details if found.pricing else None
    return _id(details.price) if details else ""


def _id(reference: Any) -> str:
    """Return the id of what may be expanded, "" of nothing."""
    return str(getattr(reference, "id", reference) or "")


def _metadata(found: Any) -> dict[str, str]:
    return found.metadata.to_dict() if found.metadata else {}
