"""What we keep of Stripe's invoices, and how work on one is asked for."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.clients.stripe import Invoice, Line, Stripe, Subscription
from billing.models import InvoiceCollection, Settlement
from billing.services.invoice_cache import forget_invoices
from lightning.services.invoices import Bill
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

State = InvoiceCollection.State
Status = InvoiceCollection.Status
#: What is left of the grace, at the least, when we first see an invoice.
_LEAST_NOTICE = timedelta(days=3)
#: Whatever an earlier answer of Stripe's says, these do not change any more.
_FINAL = (Status.PAID, Status.VOID)


def is_ours(found: Invoice, tenant: Tenant) -> bool:
    """Return whether an invoice is for relays of this tenant, its customer's."""
    return found.tenant_pubkey == tenant.pk and bool(found.subscription)


def record_invoice(*, found: Invoice, tenant: Tenant) -> InvoiceCollection | None:
    """Keep what Stripe says of an invoice; returns its collection, None if not ours.

    Two who have read it one after the other may come in any order: what is final
    stays so.
    """
    if not is_ours(found, tenant):
        _forget(found.customer, found.id)
        return None
    with transaction.atomic():
        rows = InvoiceCollection.objects
        rows.bulk_create([_new(found, tenant)], ignore_conflicts=True)
        collection: InvoiceCollection = rows.select_for_update().get(pk=found.id)
        if collection.status not in _FINAL:
            _set(collection, _columns(found, collection))
        return collection


def wake(*, invoice_id: str) -> bool:
    """Have an invoice looked at now, in the caller's transaction.

    Saving `enqueued_at` makes a receiver enqueue it; the sweep finds what got lost.
    Returns False when there is no such collection.
    """
    with transaction.atomic(savepoint=False):
        rows = InvoiceCollection.objects.select_for_update()
        collection = rows.filter(pk=invoice_id).first()
        if collection is None:
            return False
        if collection.state == State.CLOSED:
            collection.state, collection.closed_at = State.COLLECTING, None
        collection.next_attempt_at = collection.enqueued_at = timezone.now()
        collection.save(
            update_fields=["state", "closed_at", "next_attempt_at", "enqueued_at"]
        )
    return True


def discover_invoices(
    stripe: Stripe, tenant: Tenant, subscriptions: Iterable[Subscription]
) -> None:
    """Take up the latest invoice of each subscription, if no webhook told of it."""
    latest = {each.latest_invoice for each in subscriptions if each.latest_invoice}
    known = InvoiceCollection.objects.filter(pk__in=latest)
    for invoice_id in sorted(latest.difference(known.values_list("pk", flat=True))):
        take_up(stripe.get_invoice(invoice_id), tenant)


def take_up(found: Invoice, tenant: Tenant) -> InvoiceCollection | None:
    """Keep what Stripe says of an invoice and have it looked at; None if not ours."""
    with transaction.atomic():
        collection = record_invoice(found=found, tenant=tenant)
        if collection is not None:
            wake(invoice_id=collection.pk)
    return collection


def bill_of(collection: InvoiceCollection) -> Bill:
    """Return what is still to be paid of an invoice, as it was last read."""
    booked = collection.settlements.filter(state=Settlement.State.CREDITED)
    return Bill(
        tenant_id=collection.tenant_id,
        stripe_invoice_id=collection.pk,
        amount_cents=collection.amount_remaining_cents,
        currency=collection.currency,
        description=f"Invoice {collection.number or collection.pk}",
        booked=frozenset(booked.values_list("pk", flat=True)),
    )


def _new(found: Invoice, tenant: Tenant) -> InvoiceCollection:
    """Return the row without what may change, and so as a draft."""
    return InvoiceCollection(
        stripe_invoice_id=found.id,
        tenant=tenant,
        stripe_customer_id=found.customer,
        stripe_subscription_id=found.subscription,
        billing_reason=found.billing_reason,
        currency=found.currency,
        status=Status.DRAFT,
        created_at=_time(found.created),
    )


def _columns(found: Invoice, collection: InvoiceCollection) -> dict[str, Any]:
    finalized_at = _time(found.finalized_at)
    period_start, period_end = billed_period(found.lines)
    return {
        "number": found.number,
        "hosted_invoice_url": found.hosted_url,
        "status": found.status,
        "total_cents": found.total,
        "amount_due_cents": found.amount_due,
        "amount_paid_cents": found.amount_paid,
        "amount_remaining_cents": found.amount_remaining,
        "finalized_at": finalized_at,
        "due_at": _time(found.due_at),
        "suspend_at": collection.suspend_at or _end_of_grace(finalized_at),
        "period_start": period_start,
        "period_end": period_end,
    }


def _end_of_grace(finalized_at: datetime | None) -> datetime | None:
    """Return when an unpaid invoice suspends: our own clock, not Stripe's due date.

    Nobody is suspended who was hardly told: if we were away, the grace is longer.
    """
    if finalized_at is None:
        return None
    grace = timedelta(days=settings.BILLING_GRACE_DAYS)
    return max(finalized_at + grace, timezone.now() + min(grace, _LEAST_NOTICE))


def billed_period(lines: Iterable[Line]) -> tuple[datetime | None, datetime | None]:
    """Return the period that is billed; prorations may tell of an earlier one."""
    last = max(lines, key=lambda line: line.period_end, default=None)
    return (_time(last.period_start), _time(last.period_end)) if last else (None, None)


def _set(collection: InvoiceCollection, columns: dict[str, Any]) -> None:
    known = {name: getattr(collection, name) for name in columns}
    if columns == known:
        return
    # No receiver: that something was read is no reason to do anything.
    InvoiceCollection.objects.filter(pk=collection.pk).update(**columns)
    for name, value in columns.items():
        setattr(collection, name, value)
    _forget(collection.stripe_customer_id, collection.pk)


def _forget(customer_id: str, invoice_id: str) -> None:
    transaction.on_commit(partial(forget_invoices, customer_id, invoice_id))


def _time(seconds: int | None) -> Any:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
