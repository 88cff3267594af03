"""Stripe's charges, and what takes their money back: refunds, disputes, warnings.

https://docs.stripe.com/api/charges
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from billing.clients.stripe.transport import StripeTransport, v1
from billing.clients.stripe.types import optional, optional_text, read_id

T = TypeVar("T")


@dataclass(frozen=True)
class Charge:
    """A charge.

    `fingerprint` identifies the number of the `card`, or of the bank account; "" if
    Stripe names none.
    """

    id: str
    customer: str
    intent: str
    amount: int
    currency: str
    amount_refunded: int
    disputed: bool
    card: str
    fingerprint: str


@dataclass(frozen=True)
class Refund:
    """A refund; `charge` is "" if it is not of a charge."""

    id: str
    charge: str
    status: str
    amount: int
    currency: str
    reason: str
    created: int


@dataclass(frozen=True)
class Dispute:
    """A dispute or an inquiry; `due_by` is None if no evidence can be submitted."""

    id: str
    charge: str
    status: str
    amount: int
    currency: str
    reason: str
    due_by: int | None
    created: int


@dataclass(frozen=True)
class FraudWarning:
    """An early fraud warning: https://docs.stripe.com/disputes/measuring."""

    id: str
    charge: str
    fraud_type: str
    created: int


class Charges:
    """Calls on charges."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def get(self, charge_id: str) -> Charge:
        """Return a charge."""
        return self._transport.call(
            lambda: v1().charges.retrieve(charge_id), read_charge
        )

    def get_invoice_id(self, intent: str) -> str:
        """Return the id of the invoice that a PaymentIntent pays, "" if none.

        https://docs.stripe.com/api/invoice-payment/list
        """
        payment = {"type": "payment_intent", "payment_intent": intent}
        pages = self._transport.paginate(
            lambda p: v1().invoice_payments.list(p),
            {"payment": payment, "limit": 100},
            lambda found: read_id(found.invoice),
        )
        return next(pages, "")

    # Last: below it, `list` in an annotation is this method.
    def list(self, *, customer: str = "", intent: str = "") -> list[Charge]:
        """Return the charges of a customer or of a PaymentIntent, newest first."""
        filters = {"customer": customer, "payment_intent": intent}
        params = {name: value for name, value in filters.items() if value}
        pages = self._transport.paginate(
            lambda p: v1().charges.list(p), {**params, "limit": 100}, read_charge
        )
        return list(pages)


class Refunds:
    """Calls on refunds."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def list(self, *, charge: str = "", since: int = 0) -> list[Refund]:
        """Return the refunds of a charge, or those created since, newest first."""
        return _list(
            self._transport, lambda p: v1().refunds.list(p), read_refund, charge, since
        )


class Disputes:
    """Calls on disputes and inquiries."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def list(self, *, charge: str = "", since: int = 0) -> list[Dispute]:
        """Return the disputes of a charge, or those created since, newest first."""
        return _list(
            self._transport,
            lambda p: v1().disputes.list(p),
            read_dispute,
            charge,
            since,
        )


class FraudWarnings:
    """Calls on early fraud warnings."""

    def __init__(self, transport: StripeTransport) -> None:
        self._transport = transport

    def list(self, *, charge: str = "", since: int = 0) -> list[FraudWarning]:
        """Return the warnings about a charge, or those issued since, newest first."""
        return _list(
            self._transport,
            lambda p: v1().radar.early_fraud_warnings.list(p),
            read_fraud_warning,
            charge,
            since,
        )


def read_charge(found: Any) -> Charge:
    details = optional(found, "payment_method_details")
    return Charge(
        id=found.id,
        customer=read_id(optional(found, "customer")),
        intent=read_id(optional(found, "payment_intent")),
        amount=found.amount,
        currency=found.currency,
        amount_refunded=found.amount_refunded,
        disputed=found.disputed,
        card=optional_text(found, "payment_method"),
        fingerprint=optional_text(
            details, optional_text(details, "type"), "fingerprint"
        ),
    )


def read_refund(found: Any) -> Refund:
    return Refund(
        id=found.id,
        charge=read_id(optional(found, "charge")),
        status=optional_text(found, "status"),
        amount=found.amount,
        currency=found.currency,
        reason=optional_text(found, "reason"),
        created=found.created,
    )


def read_dispute(found: Any) -> Dispute:
    return Dispute(
        id=found.id,
        charge=read_id(found.charge),
        status=found.status,
        amount=found.amount,
        currency=found.currency,
        reason=found.reason,
        # 0 if the bank allows no response:
        # https://docs.stripe.com/api/disputes/object
        due_by=optional(found, "evidence_details", "due_by") or None,
        created=found.created,
    )


def read_fraud_warning(found: Any) -> FraudWarning:
    return FraudWarning(
        found.id, read_id(found.charge), found.fraud_type, found.created
    )


def _list(
    transport: StripeTransport,
    fetch: Callable[[Any], Any],
    read: Callable[[Any], T],
    charge: str,
    since: int,
) -> list[T]:
    params: dict[str, Any] = {"limit": 100}
    if charge:
        params["charge"] = charge
    if since:
        params["created"] = {"gte": since}
    return list(transport.paginate(fetch, params, read))
