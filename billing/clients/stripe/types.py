"""The parts of Stripe's objects that Caravel uses.

Amounts are in the currency's minor unit; times are Unix seconds, None if not set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Customer:
    """A customer, possibly a deleted one. `default_card` is "" if none is set."""

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
    """A subscription. Until it is canceled, `cancel_reason` is "".

    With a scheduled cancellation `canceled_at` is earlier than `ended_at`.
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
    """A line of an invoice, or an item pending for the next one."""

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
    """An invoice. `lines` has the first ten; `has_more_lines` says if there are more.

    `subscription` and `tenant_pubkey` (from the subscription's metadata) are "" for an
    invoice without one. `paid_off_stripe` is 0 in lists: only a retrieved invoice
    has it.
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
    """A payment of an invoice; `intent` is "" if it was made outside Stripe.

    `amount_paid` is 0 until it is paid.
    """

    id: str
    status: str
    intent: str
    amount_paid: int


@dataclass(frozen=True)
class PaymentIntent:
    """A PaymentIntent; `card` is the last card that was tried."""

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
    """A change of a customer's balance; a negative amount is credit."""

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
    """Return the id of a reference, expanded or not; "" for None."""
    return str(getattr(reference, "id", reference) or "")


def _metadata(found: Any) -> dict[str, str]:
    return found.metadata.to_dict() if found.metadata else {}
