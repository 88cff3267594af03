"""What we keep of Stripe's invoices, and how work on one is asked for."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Invoice, Line, Stripe, Subscription
from billing.exceptions import InvoiceChanged
from billing.models import InvoiceCollection, Settlement
from billing.services.invoices.cache import invalidate
from lightning.services.invoices import PaymentRequest
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

State = InvoiceCollection.State
Status = InvoiceCollection.Status
#: What is left of the grace, at the least, when we first see an invoice.
_LEAST_NOTICE = timedelta(days=3)
#: Whatever an earlier answer of Stripe's says, these do not change any more.
_FINAL = (Status.PAID, Status.VOID)
#: How often an invoice is read again that others are changing.
_MOST_READS = 5


def is_ours(found: Invoice, tenant: Tenant) -> bool:
    """Return whether an invoice is for relays of this tenant, its customer's."""
    return found.tenant_pubkey == tenant.pk and bool(found.subscription)


def read_invoice(stripe: Stripe, invoice_id: str, tenant: Tenant) -> Invoice:
    """Read an invoice at Stripe, keep what it says, and return it.

    What somebody has overtaken is read again. Raises InvoiceChanged if others are
    changing it all the time.
    """
    for _ in range(_MOST_READS):
        since = revision_of(invoice_id)
        found = stripe.get_invoice(invoice_id)
        kept = record_invoice(found=found, tenant=tenant, since=since)
        if kept is None or _agree(kept, found):
            return found
    if kept and kept.is_final:
        return found
    raise InvoiceChanged("The invoice is just being changed.")


def revision_of(invoice_id: str) -> int:
    """Return how often what we keep of an invoice has changed, 0 if that is nothing."""
    rows = InvoiceCollection.objects.filter(pk=invoice_id)
    return rows.values_list("revision", flat=True).first() or 0


def revisions_of(subscription_id: str) -> dict[str, int]:
    """Return the `revision_of` each invoice of a subscription that we know, by id."""
    rows = InvoiceCollection.objects.filter(stripe_subscription_id=subscription_id)
    return dict(rows.values_list("pk", "revision"))


def record_invoice(
    *, found: Invoice, tenant: Tenant, since: int = 0
) -> InvoiceCollection | None:
    """Keep what Stripe says of an invoice; returns its collection, None if not ours.

    Answers may come in another order than Stripe gave them. What is final stays so;
    anything else is kept only if nothing was since the `revision_of` before Stripe was
    asked, which is 0 for an invoice that we do not know.
    """
    if not is_ours(found, tenant):
        _forget(found.customer, found.id)
        return None
    with transaction.atomic():
        rows = InvoiceCollection.objects
        rows.bulk_create([_new(found, tenant)], ignore_conflicts=True)
        collection: InvoiceCollection = rows.select_for_update().get(pk=found.id)
        is_news = found.status in _FINAL or collection.revision == since
        if is_news and not collection.is_final:
            _set(collection, _columns(found, collection))
        return collection


def enqueue_collection(*, invoice_id: str) -> bool:
    """Have an invoice looked at now, in the caller's transaction.

    Returns False when there is no such collection.
    """
    with transaction.atomic(savepoint=False):
        rows = InvoiceCollection.objects.select_for_update()
        collection = rows.filter(pk=invoice_id).first()
        if collection is None:
            return False
        if collection.state == State.CLOSED:
            collection.state, collection.closed_at = State.COLLECTING, None
            collection.save(update_fields=["state", "closed_at"])
        collection.enqueue()
    return True


def discover_invoices(
    stripe: Stripe, tenant: Tenant, subscriptions: Iterable[Subscription]
) -> None:
    """Take up the latest invoice of each subscription, if no webhook told of it."""
    latest = {each.latest_invoice for each in subscriptions if each.latest_invoice}
    known = InvoiceCollection.objects.filter(pk__in=latest)
    for invoice_id in sorted(latest.difference(known.values_list("pk", flat=True))):
        record_and_enqueue(stripe.get_invoice(invoice_id), tenant)


def record_and_enqueue(
    found: Invoice, tenant: Tenant, *, since: int = 0
) -> InvoiceCollection | None:
    """Keep what Stripe says of an invoice and have it looked at; None if not ours.

    What is kept, is what `record_invoice` keeps.
    """
    with transaction.atomic():
        collection = record_invoice(found=found, tenant=tenant, since=since)
        if collection is not None:
            enqueue_collection(invoice_id=collection.pk)
    return collection


def payment_request_for(collection: InvoiceCollection) -> PaymentRequest:
    """Return what is still to be paid of an invoice, as it was last read."""
    booked = collection.settlements.filter(state=Settlement.State.CREDITED)
    return PaymentRequest(
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
        stripe_status=Status.DRAFT,
        created_at=_time(found.created),
    )


def _columns(found: Invoice, collection: InvoiceCollection) -> dict[str, Any]:
    finalized_at = _time(found.finalized_at)
    period_start, period_end = billed_period(found.lines)
    return {
        "number": found.number,
        "hosted_invoice_url": found.hosted_url,
        "stripe_status": found.status,
        "total_cents": found.total,
        "amount_due_cents": found.amount_due,
        "amount_paid_cents": found.amount_paid,
        "amount_remaining_cents": found.amount_remaining,
        "finalized_at": finalized_at,
        "due_at": _time(found.due_at),
        "suspend_at": collection.suspend_at or _suspend_at(finalized_at),
        "period_start": period_start,
        "period_end": period_end,
    }


def _suspend_at(finalized_at: datetime | None) -> datetime | None:
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


def _agree(kept: InvoiceCollection, found: Invoice) -> bool:
    if kept.is_final:
        return found.status in _FINAL
    mine = (kept.stripe_status, kept.amount_remaining_cents, kept.amount_paid_cents)
    return mine == (found.status, found.amount_remaining, found.amount_paid)


def _set(collection: InvoiceCollection, columns: dict[str, Any]) -> None:
    known = {name: getattr(collection, name) for name in columns}
    if columns == known:
        return
    columns = {**columns, "revision": collection.revision + 1}
    # No receiver: that something was read is no reason to do anything.
    InvoiceCollection.objects.filter(pk=collection.pk).update(**columns)
    for name, value in columns.items():
        setattr(collection, name, value)
    _forget(collection.stripe_customer_id, collection.pk)


def _forget(customer_id: str, invoice_id: str) -> None:
    transaction.on_commit(partial(invalidate, customer_id, invoice_id))


def _time(seconds: int | None) -> Any:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
