"""Invoices and their payments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.clients.stripe.types.fields import (
    optional,
    optional_text,
    read_id,
    read_metadata,
)
from billing.clients.stripe.types.lines import Line, read_line


@dataclass(frozen=True)
class PaymentIntent:
    """A PaymentIntent; `card` is the payment method that was tried last."""

    id: str
    status: str
    card: str
    error_code: str
    decline_code: str


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
class Invoice:
    """An invoice. `lines` has the first ten; `has_more_lines` says if there are more.

    `subscription` and `tenant_pubkey` (from the subscription's metadata) are "" for an
    invoice without one. Only a retrieved invoice has `paid_off_stripe`, else 0, and
    `intents`, else None: the PaymentIntents of its payments. `payments` is None as well
    if it does not have all of them. `credited` is the sum of its credit notes, and
    `credited_after_payment` the part of them that was given back. `auto_advance` is
    None if Stripe does not say.
    """

    id: str
    status: str
    customer: str
    subscription: str
    tenant_pubkey: str
    billing_reason: str
    collection_method: str
    auto_advance: bool | None
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
    finalizes_at: int | None = None
    finalization_error: str = ""
    webhooks_delivered_at: int | None = None
    written_off_at: int | None = None
    written_off_reason: str = ""
    intents: tuple[PaymentIntent, ...] | None = None
    payments: tuple[InvoicePayment, ...] | None = None
    credited_after_payment: int = 0


def read_invoice(found: Any) -> Invoice:
    parent = optional(found, "parent", "subscription_details")
    return Invoice(
        id=found.id,
        status=optional_text(found, "status"),
        customer=read_id(optional(found, "customer")),
        subscription=read_id(optional(parent, "subscription")),
        tenant_pubkey=read_metadata(parent).get("tenant_pubkey", ""),
        billing_reason=optional_text(found, "billing_reason"),
        collection_method=found.collection_method,
        auto_advance=optional(found, "auto_advance"),
        currency=found.currency,
        number=optional_text(found, "number"),
        hosted_url=optional_text(found, "hosted_invoice_url"),
        total=found.total,
        amount_due=found.amount_due,
        amount_paid=found.amount_paid,
        amount_remaining=found.amount_remaining,
        credited=found.pre_payment_credit_notes_amount
        + found.post_payment_credit_notes_amount,
        paid_off_stripe=optional(found, "amount_paid_off_stripe") or 0,
        created=found.created,
        due_at=optional(found, "due_date"),
        finalized_at=optional(found, "status_transitions", "finalized_at"),
        lines=tuple(map(read_line, found.lines.data)),
        metadata=read_metadata(found),
        paid_at=optional(found, "status_transitions", "paid_at"),
        has_more_lines=bool(found.lines.has_more),
        finalizes_at=optional(found, "automatically_finalizes_at"),
        finalization_error=_error_code(optional(found, "last_finalization_error")),
        webhooks_delivered_at=optional(found, "webhooks_delivered_at"),
        written_off_at=optional(found, "status_transitions", "marked_uncollectible_at"),
        written_off_reason=optional_text(
            found, "status_details", "uncollectible", "reason"
        ),
        intents=_intents(optional(found, "payments", "data")),
        payments=_payments(optional(found, "payments")),
        credited_after_payment=found.post_payment_credit_notes_amount,
    )


def read_payment_intent(found: Any) -> PaymentIntent:
    tried = optional(found, "last_payment_error", "payment_method")
    return PaymentIntent(
        id=found.id,
        status=found.status,
        card=read_id(optional(found, "payment_method")) or read_id(tried),
        error_code=optional_text(found, "last_payment_error", "code"),
        decline_code=optional_text(found, "last_payment_error", "decline_code"),
    )


def read_invoice_payment(found: Any) -> InvoicePayment:
    return InvoicePayment(
        id=found.id,
        status=found.status,
        intent=read_id(optional(found.payment, "payment_intent")),
        amount_paid=optional(found, "amount_paid") or 0,
    )


def _intents(payments: Any) -> tuple[PaymentIntent, ...] | None:
    """Return the expanded PaymentIntents of payments; None if they are not expanded."""
    if payments is None:
        return None
    found = [optional(each, "payment", "payment_intent") for each in payments]
    return tuple(
        read_payment_intent(each) for each in found if optional(each, "status")
    )


def _payments(found: Any) -> tuple[InvoicePayment, ...] | None:
    """Return an invoice's payments; None if they are not expanded, or not complete."""
    # Without `has_more` there may be more.
    if found is None or optional(found, "has_more") is not False:
        return None
    return tuple(map(read_invoice_payment, found.data))


def _error_code(error: Any) -> str:
    """Return the code of an error, or its type: a code is optional. "" for None."""
    return (
        ""
        if error is None
        else optional_text(error, "code") or optional_text(error, "type")
    )
