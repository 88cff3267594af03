"""Dispute debts: disputed money that pays for served time is owed again (ADR 19).

The debt is the disputed amount without unserved time that was not given back, without
what was repaid and what was written off. What was repaid of a won dispute is credited.
"""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone

from billing.models import Credit, InvoiceCollection, Reversal
from billing.services.credits.posting import record_credit
from billing.services.dunning import notices
from billing.services.dunning.suspension import review_tenant
from billing.services.invoices import locks
from billing.services.invoices.amounts import taken_back_cents
from billing.services.invoices.records import enqueue_collection
from tenants.models import Tenant

logger = structlog.get_logger(__name__)


def refresh_dispute_debt(collection: InvoiceCollection) -> int:
    """Store the dispute debt of an invoice, and credit what won disputes return.

    `collection` is locked in the caller's transaction. Returns the debt.
    """
    _credit_won_disputes(collection)
    disputes = collection.reversals.disputes()
    settled = disputes.sum_cents("repaid_cents") + disputes.sum_cents(
        "written_off_cents"
    )
    debt = max(0, _disputed_served_cents(collection) - settled)
    earlier, was_unpaid = collection.dispute_debt_cents, collection.is_unpaid
    if debt == earlier:
        return debt
    collection.dispute_debt_cents = debt
    collection.revision += 1
    InvoiceCollection.objects.filter(pk=collection.pk).update(
        dispute_debt_cents=debt, revision=collection.revision
    )
    logger.info("dispute_debt", stripe_invoice=collection.pk, cents=debt)
    if not was_unpaid:
        _start_grace(collection)
    if debt > earlier:
        notices.notify_payment_disputed(collection)
    return debt


def repay_dispute(collection: InvoiceCollection, cents: int) -> int:
    """Book up to `cents` of a payment that arrived to the dispute debt of an invoice.

    `collection` is locked in the caller's transaction. Returns the booked part.
    """
    booked = min(cents, collection.dispute_debt_cents)
    if booked:
        _distribute(collection, booked, "repaid_cents")
        refresh_dispute_debt(collection)
    return booked


def write_off_dispute_debt(*, invoice_id: str) -> int:
    """Write off the dispute debt of an invoice, on an operator's request.

    Relays that are off because of it return. Returns the amount, 0 without a debt.
    """
    tenant_id = InvoiceCollection.objects.get(pk=invoice_id).tenant_id
    with transaction.atomic():
        Tenant.objects.lock(tenant_id)
        collection = locks.lock_collection(invoice_id)
        written_off = collection.dispute_debt_cents
        if not written_off:
            return 0
        _distribute(collection, written_off, "written_off_cents")
        refresh_dispute_debt(collection)
        enqueue_collection(invoice_id=invoice_id)
        review_tenant(tenant_id=tenant_id)
    logger.info("dispute_written_off", stripe_invoice=invoice_id, cents=written_off)
    return written_off


def is_taken_back(collection: InvoiceCollection) -> bool:
    """Return whether disputes took all that was paid, and it was not paid again."""
    taken_back = taken_back_cents(collection.pk)
    return taken_back > 0 and taken_back >= collection.amount_paid_cents


def _disputed_served_cents(collection: InvoiceCollection) -> int:
    """Return the disputed part of an invoice that pays for served time."""
    disputed = collection.reversals.disputes().sum_cents()
    unserved = max(0, collection.unserved_cents - collection.given_back_cents)
    return max(0, disputed - unserved)


def _start_grace(collection: InvoiceCollection) -> None:
    """Give the tenant the grace period again: a paid invoice is owed again."""
    grace = timedelta(days=settings.BILLING_GRACE_DAYS)
    collection.suspend_at = timezone.now() + grace
    InvoiceCollection.objects.filter(pk=collection.pk).update(
        suspend_at=collection.suspend_at
    )
    notices.reset_deadline_notices(collection)


def _distribute(collection: InvoiceCollection, cents: int, column: str) -> None:
    """Add an amount to a column of the invoice's disputes, oldest first."""
    left = cents
    *others, last = collection.reversals.disputes().order_by("created_at", "pk")
    for dispute in others:
        settled = dispute.repaid_cents + dispute.written_off_cents
        part = min(left, max(0, dispute.amount_cents - settled))
        _add(dispute, column, part)
        left -= part
    _add(last, column, left)


def _add(dispute: Reversal, column: str, cents: int) -> None:
    Reversal.objects.filter(pk=dispute.pk).update(**{column: F(column) + cents})


def _credit_won_disputes(collection: InvoiceCollection) -> None:
    """Credit what was repaid of disputes that took nothing, less what was before.

    Negative if a dispute takes the money after all. What was repaid of others is paid
    for the invoice: `invoices.amounts`.
    """
    disputes = collection.reversals.filter(kind=Reversal.Kind.DISPUTE)
    returned = disputes.exclude(state__in=Reversal.TAKING_STATES)
    cents = returned.sum_cents("repaid_cents")
    prefix = f"{collection.pk}:repaid:"
    earlier = Credit.objects.filter(
        reason=Credit.Reason.SURPLUS, source__startswith=prefix
    )
    credited = int(earlier.aggregate(cents=Sum("amount_cents", default=0))["cents"])
    if cents != credited:
        record_credit(
            tenant_id=collection.tenant_id,
            reason=Credit.Reason.SURPLUS,
            source=f"{prefix}{earlier.count() + 1}",
            currency=collection.currency,
            amount_cents=cents - credited,
        )
