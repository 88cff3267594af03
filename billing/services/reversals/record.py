"""Recording refunds, disputes and warnings, with their effects on the tenant.

They are read from Stripe by charge, and recorded only if nothing else was recorded
since: an older answer never replaces a newer one.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import (
    Charge,
    Dispute,
    FraudWarning,
    Refund,
    Stripe,
)
from billing.clients.stripe.types import to_datetime
from billing.exceptions import ReversalChanged
from billing.models import InvoiceCollection, Reversal
from billing.services.credits.recredit import request_recredit
from billing.services.dunning.suspension import review_tenant
from billing.services.invoices import locks
from billing.services.invoices.cache import invalidate
from billing.services.invoices.records import enqueue_collection, record_and_enqueue
from billing.services.reversals.alerts import alert_if_needed
from billing.services.reversals.debts import refresh_dispute_debt
from billing.services.reversals.read import (
    ChargeReversals,
    invoice_id_of,
    read_reversals,
    versions_of,
)
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

Kind = Reversal.Kind
#: How often a charge is read again while others record its reversals.
_MAX_READS = 5


def record_customer_reversals(stripe: Stripe, tenant: Tenant, customer: str) -> None:
    """Read and record the refunds and disputes of a customer's payments.

    Charges without any cost no further request. Early fraud warnings are not seen
    here: they take nothing. Raises ReversalChanged if others keep recording them.
    """
    known = set(tenant.reversals.values_list("charge_id", flat=True))
    for charge in stripe.charges.list(customer=customer):
        if charge.disputed or charge.amount_refunded or charge.id in known:
            record_charge(stripe, tenant, charge)


def find_tenant(stripe: Stripe, charge: Charge) -> Tenant | None:
    """Return the tenant whose customer or invoice a charge is of, None if foreign."""
    if charge.customer:
        tenant = Tenant.objects.by_customer(charge.customer).first()
        if tenant:
            return tenant
    rows = InvoiceCollection.objects.select_related("tenant")
    # The invoice outlives the customer.
    collection = rows.filter(pk=invoice_id_of(stripe, charge)).first()
    return collection.tenant if collection else None


def record_charge(stripe: Stripe, tenant: Tenant, charge: Charge) -> str:
    """Read and record the reversals of a charge; returns what changed.

    Raises ReversalChanged if others keep recording them.
    """
    for _ in range(_MAX_READS):
        found = fetch_reversals(stripe, tenant, charge)
        try:
            return apply_reversals(found)
        except ReversalChanged:
            logger.info("reversals_read_again", charge=charge.id)
    raise ReversalChanged("The charge's refunds and disputes keep changing.")


def fetch_reversals(stripe: Stripe, tenant: Tenant, charge: Charge) -> ChargeReversals:
    """Return the reversals of a charge; its invoice is recorded first if it is not."""
    found = read_reversals(stripe, charge)
    rows = InvoiceCollection.objects.filter(pk=found.invoice_id)
    if found.invoice_id and not rows.exists():
        record_and_enqueue(stripe.invoices.get(found.invoice_id), tenant)
    return found


def fetch_refunded(
    stripe: Stripe, tenant: Tenant, invoice_id: str
) -> list[ChargeReversals]:
    """Return the reversals of an invoice's charges of which refunds are recorded."""
    refunds = Reversal.objects.filter(collection=invoice_id, kind=Kind.REFUND)
    charge_ids = sorted(set(refunds.values_list("charge_id", flat=True)))
    charges = map(stripe.charges.get, charge_ids)
    return [fetch_reversals(stripe, tenant, charge) for charge in charges]


def apply_reversals(found: ChargeReversals) -> str:
    """Record the reversals of a charge, and their effects; returns what changed.

    Touches only the database. Raises ReversalChanged if others were recorded since.
    """
    invoice = InvoiceCollection.objects.filter(pk=found.invoice_id).first()
    if invoice is None:
        return "not a payment of one of our invoices"
    with transaction.atomic():
        # Of the invoice: support may have moved the customer to another tenant.
        tenant = Tenant.objects.lock(invoice.tenant_id)
        collection = locks.lock_collection(invoice.pk)
        if versions_of(found.charge.id) != found.since:
            raise ReversalChanged("The charge's refunds or disputes have just changed.")
        changed = [
            row for columns in _columns(found, collection) if (row := _save(columns))
        ]
        if changed:
            _react(tenant, collection)
    states = ", ".join(f"{row.kind} {row.state}" for row in changed)
    return states or "no reversal has changed"


def _react(tenant: Tenant, collection: InvoiceCollection) -> None:
    """Update debt, relays and notices after a change of an invoice's reversals."""
    refresh_dispute_debt(collection)
    request_recredit(
        tenant_id=tenant.pk, subscription_id=collection.stripe_subscription_id
    )
    enqueue_collection(invoice_id=collection.pk)
    review_tenant(tenant_id=tenant.pk)
    customer = collection.stripe_customer_id
    transaction.on_commit(partial(invalidate, customer, collection.pk))


def _save(columns: dict[str, Any]) -> Reversal | None:
    """Record a reversal as just read; returns None if nothing has changed."""
    key = columns["stripe_id"]
    before = Reversal.objects.filter(pk=key).first()
    if before and all(getattr(before, name) == columns[name] for name in columns):
        return None
    row, _ = Reversal.objects.update_or_create(
        pk=key, defaults={**columns, "updated_at": timezone.now()}
    )
    alert_if_needed(row, before)
    return row


def _columns(
    found: ChargeReversals, collection: InvoiceCollection
) -> Iterator[dict[str, Any]]:
    charge = found.charge
    common = {
        "tenant_id": collection.tenant_id,
        "collection_id": collection.pk,
        "currency": charge.currency,
        "charge_id": charge.id,
        "payment_method": charge.card,
        "card_fingerprint": charge.fingerprint,
    }
    for refund in found.refunds:
        yield {**common, **_refund_columns(refund, found.notes.get(refund.id, ""))}
    for dispute in found.disputes:
        yield {**common, **_dispute_columns(dispute, charge)}
    for warning in found.warnings:
        yield {**common, **_warning_columns(warning, charge)}


def _refund_columns(refund: Refund, credit_note_id: str) -> dict[str, Any]:
    return {
        "stripe_id": refund.id,
        "kind": Kind.REFUND,
        # Older refunds have no status; until it has failed, the money is gone.
        "state": refund.status or Reversal.State.PENDING,
        "amount_cents": refund.amount,
        "reason": refund.reason,
        "credit_note_id": credit_note_id,
        "created_at": to_datetime(refund.created),
    }


def _dispute_columns(dispute: Dispute, charge: Charge) -> dict[str, Any]:
    return {
        "stripe_id": dispute.id,
        "kind": Kind.DISPUTE,
        "state": dispute.status,
        "amount_cents": _disputed_cents(dispute, charge),
        "reason": dispute.reason,
        "evidence_due_at": to_datetime(dispute.due_by),
        "created_at": to_datetime(dispute.created),
    }


def _warning_columns(warning: FraudWarning, charge: Charge) -> dict[str, Any]:
    return {
        "stripe_id": warning.id,
        "kind": Kind.FRAUD_WARNING,
        "state": Reversal.State.OPEN,
        "amount_cents": charge.amount,
        "reason": warning.fraud_type,
        "created_at": to_datetime(warning.created),
    }


def _disputed_cents(dispute: Dispute, charge: Charge) -> int:
    """Return the disputed amount in the charge's currency, at most the charge.

    The bank may dispute in the cardholder's currency:
    https://docs.stripe.com/api/disputes/object
    """
    is_same = dispute.currency == charge.currency
    return min(dispute.amount, charge.amount) if is_same else charge.amount
