"""Local records of Stripe invoices, and enqueuing their collection."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.clients.stripe.client import Invoice, Line, Stripe, Subscription
from billing.clients.stripe.types import to_datetime
from billing.exceptions import InvoiceChanged
from billing.models import InvoiceCollection, Settlement
from billing.services.invoices.cache import invalidate
from billing.services.invoices.holds import hold_of
from billing.services.invoices.ownership import disown, is_own_invoice
from lightning.services.invoices import PaymentRequest
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

State = InvoiceCollection.State
Intent = InvoiceCollection.IntentStatus
Status = InvoiceCollection.Status
#: At least this much of the grace period is left when an invoice is first seen.
_MIN_NOTICE = timedelta(days=3)
#: How often an invoice is read again while others are changing it.
_MAX_READS = 5


def read_invoice(stripe: Stripe, invoice_id: str, tenant: Tenant) -> Invoice:
    """Fetch an invoice from Stripe, record it, and return it.

    Fetches again if a newer state was recorded meanwhile. Raises InvoiceChanged if that
    happens every time.
    """
    for _ in range(_MAX_READS):
        since = revision_of(invoice_id)
        invoice = stripe.invoices.get(invoice_id)
        stored = record_invoice(invoice=invoice, tenant=tenant, since=since)
        if stored is None or matches(stored, invoice):
            return invoice
    if stored and stored.is_final:
        return invoice
    raise InvoiceChanged("The invoice is being changed.")


def revision_of(invoice_id: str) -> int:
    """Return the number of changes of an invoice's record, 0 if there is no record."""
    rows = InvoiceCollection.objects.filter(pk=invoice_id)
    return rows.values_list("revision", flat=True).first() or 0


def revisions_of(subscription_id: str) -> dict[str, int]:
    """Return `revision_of` for each recorded invoice of a subscription, by id."""
    rows = InvoiceCollection.objects.filter(stripe_subscription_id=subscription_id)
    return dict(rows.values_list("pk", "revision"))


def record_invoice(
    *, invoice: Invoice, tenant: Tenant, since: int = 0
) -> InvoiceCollection | None:
    """Record an invoice as fetched from Stripe; returns its collection.

    Returns None if the invoice is not for relays of this tenant. `since` is its
    `revision_of` before the fetch: if another answer was recorded meanwhile, this one
    may be older and is dropped, unless it is final. A final state stays.
    """
    if not is_own_invoice(tenant, invoice):
        disown(tenant, [invoice.subscription or invoice.id])
        _invalidate_on_commit(invoice.customer, invoice.id)
        return None
    with transaction.atomic(savepoint=False):
        collection = _lock_or_create(invoice, tenant)
        # An older answer from Stripe cannot undo a final state.
        is_newer = (
            invoice.status in InvoiceCollection.FINAL_STATUSES
            or collection.revision == since
        )
        if is_newer and not collection.is_final:
            _update(collection, _columns(invoice, collection))
        return collection


def _lock_or_create(invoice: Invoice, tenant: Tenant) -> InvoiceCollection:
    rows = InvoiceCollection.objects.select_for_update()
    locked: InvoiceCollection | None = rows.filter(pk=invoice.id).first()
    if locked is None:
        # Then lock it again: two workers may see the invoice first.
        InvoiceCollection.objects.bulk_create(
            [_new(invoice, tenant)], ignore_conflicts=True
        )
        locked = rows.get(pk=invoice.id)
    return locked


def enqueue_collection(*, invoice_id: str, force: bool = False) -> bool:
    """Enqueue the collection of an invoice, in the caller's transaction.

    A closed one is opened again. A message that is on its way covers later changes too,
    since its task reads the invoice after it has taken the message; `force` sends
    another in any case. Returns False if there is no such collection.
    """
    with transaction.atomic(savepoint=False):
        rows = InvoiceCollection.objects.select_for_update()
        collection = rows.filter(pk=invoice_id).first()
        if collection is None:
            return False
        _enqueue_locked(collection, force=force)
    return True


def _enqueue_locked(collection: InvoiceCollection, *, force: bool = False) -> None:
    if collection.state == State.CLOSED:
        collection.state, collection.closed_at = State.COLLECTING, None
        collection.save(update_fields=["state", "closed_at"])
    now = timezone.now()
    if force or collection.next_attempt_at > now or not collection.is_enqueued(now):
        collection.enqueue()


def is_collected(invoice_id: str) -> bool:
    """Return whether nothing that is read from Stripe would change its collection.

    It is closed, and final: a refund or a dispute has events of its own.
    """
    closed = InvoiceCollection.objects.filter(pk=invoice_id, state=State.CLOSED)
    return closed.filter(stripe_status__in=InvoiceCollection.FINAL_STATUSES).exists()


def discover_invoices(
    stripe: Stripe, tenant: Tenant, subscriptions: Iterable[Subscription]
) -> None:
    """Record the invoices of each subscription whose latest invoice is unknown.

    Its webhook was lost, and maybe those of earlier invoices.
    """
    latest = {each.latest_invoice: each.id for each in subscriptions}
    for invoice_id in sorted(unknown_invoices(filter(None, latest))):
        invoices = stripe.invoices.list(subscription=latest[invoice_id])
        unknown = unknown_invoices(invoice.id for invoice in invoices)
        for invoice in reversed(invoices):
            if invoice.id in unknown:
                record_and_enqueue(invoice, tenant)


def unknown_invoices(invoice_ids: Iterable[str]) -> set[str]:
    """Return those of these ids that are not recorded."""
    ids = set(invoice_ids)
    known = InvoiceCollection.objects.filter(pk__in=ids)
    return ids.difference(known.values_list("pk", flat=True))


def record_and_enqueue(
    invoice: Invoice, tenant: Tenant, *, since: int = 0
) -> InvoiceCollection | None:
    """Like `record_invoice`; also enqueues the collection."""
    with transaction.atomic(savepoint=False):
        collection = record_invoice(invoice=invoice, tenant=tenant, since=since)
        if collection is not None:
            _enqueue_locked(collection)
    return collection


def payment_request_for(
    collection: InvoiceCollection, *, with_dispute_debt: bool = False
) -> PaymentRequest:
    """Return the request to pay the remaining amount, as last recorded.

    Only a person pays the dispute debt as well: nothing charges it automatically.
    """
    cents = collection.chargeable_cents
    booked = collection.settlements.exclude(state__in=Settlement.MARK_STATES)
    return PaymentRequest(
        tenant_id=collection.tenant_id,
        stripe_invoice_id=collection.pk,
        amount_cents=collection.owed_cents if with_dispute_debt else cents,
        currency=collection.currency,
        description=f"Invoice {collection.number or collection.pk}",
        booked=frozenset(booked.values_list("pk", flat=True)),
    )


def _new(invoice: Invoice, tenant: Tenant) -> InvoiceCollection:
    """Return a row with only the columns that never change, as a draft."""
    return InvoiceCollection(
        stripe_invoice_id=invoice.id,
        tenant=tenant,
        stripe_customer_id=invoice.customer,
        stripe_subscription_id=invoice.subscription,
        billing_reason=invoice.billing_reason,
        currency=invoice.currency,
        stripe_status=Status.DRAFT,
        created_at=to_datetime(invoice.created),
    )


def _columns(invoice: Invoice, collection: InvoiceCollection) -> dict[str, Any]:
    finalized_at = to_datetime(invoice.finalized_at)
    period_start, period_end = billed_period(invoice.lines)
    return {
        **_hold_columns(invoice, collection),
        "number": invoice.number,
        "hosted_invoice_url": invoice.hosted_url,
        "stripe_status": invoice.status,
        "total_cents": invoice.total,
        "amount_due_cents": invoice.amount_due,
        "amount_paid_cents": invoice.amount_paid,
        "amount_remaining_cents": invoice.amount_remaining,
        "finalized_at": finalized_at,
        "due_at": to_datetime(invoice.due_at),
        "suspend_at": collection.suspend_at or _suspend_at(finalized_at),
        "period_start": period_start,
        "period_end": period_end,
        **_intent_columns(invoice, collection),
    }


def _hold_columns(invoice: Invoice, collection: InvoiceCollection) -> dict[str, Any]:
    """Return the columns of a hold; a refusal lasts until the draft is finalized."""
    refused_at = collection.finalization_refused_at
    hold = hold_of(invoice, was_refused=refused_at is not None)
    is_refused = hold == InvoiceCollection.Hold.REFUSED
    code = invoice.finalization_error or collection.finalization_error
    return {
        "hold": hold,
        "finalization_refused_at": refused_at or timezone.now() if is_refused else None,
        "finalization_error": code[:64] if is_refused else "",
    }


def _intent_columns(invoice: Invoice, collection: InvoiceCollection) -> dict[str, Any]:
    """Return the columns of a payment at Stripe that may still pay the invoice.

    A challenge that one of our own card charges has met is left out: the cardholder
    may be absent.
    """
    intents = (
        () if invoice.status in InvoiceCollection.FINAL_STATUSES else invoice.intents
    )
    if intents is None:
        return {}
    charged = collection.card_attempts.values_list("payment_method", flat=True)
    paying = [each for each in intents if each.status == Intent.PROCESSING] or [
        each
        for each in intents
        if each.status == Intent.REQUIRES_ACTION and each.card not in set(charged)
    ]
    status, method = (paying[0].status, paying[0].card) if paying else (Intent.NONE, "")
    if (status, method) == (collection.intent_status, collection.intent_method):
        return {}
    since = timezone.now() if status else None
    return {"intent_status": status, "intent_method": method, "intent_since": since}


def _suspend_at(finalized_at: datetime | None) -> datetime | None:
    """Return the end of the grace period, by Caravel's clock, not Stripe's due date.

    After downtime it is later, so that every tenant has at least three days' notice.
    """
    if finalized_at is None:
        return None
    grace = timedelta(days=settings.BILLING_GRACE_DAYS)
    return max(finalized_at + grace, timezone.now() + min(grace, _MIN_NOTICE))


def billed_period(lines: Iterable[Line]) -> tuple[datetime | None, datetime | None]:
    """Return the latest period of the lines: prorations may be for an earlier one."""
    last = max(lines, key=lambda line: line.period_end, default=None)
    return (
        (to_datetime(last.period_start), to_datetime(last.period_end))
        if last
        else (None, None)
    )


def matches(stored: InvoiceCollection, invoice: Invoice) -> bool:
    """Return whether a record has what decides about an invoice as just read."""
    if stored.is_final:
        return invoice.status in InvoiceCollection.FINAL_STATUSES
    state = (stored.stripe_status, stored.amount_remaining_cents)
    if (*state, stored.amount_paid_cents) != (
        invoice.status,
        invoice.amount_remaining,
        invoice.amount_paid,
    ):
        return False
    return not _intent_columns(invoice, stored)


def _update(collection: InvoiceCollection, columns: dict[str, Any]) -> None:
    if columns == {name: getattr(collection, name) for name in columns}:
        return
    columns = {**columns, "revision": collection.revision + 1}
    # `update()` on purpose: a read must not trigger a collection.
    InvoiceCollection.objects.filter(pk=collection.pk).update(**columns)
    for name, value in columns.items():
        setattr(collection, name, value)
    _invalidate_on_commit(collection.stripe_customer_id, collection.pk)


def _invalidate_on_commit(customer_id: str, invoice_id: str) -> None:
    transaction.on_commit(partial(invalidate, customer_id, invoice_id))
