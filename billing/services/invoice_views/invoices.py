"""Invoices for the API and the payment page: Stripe's data and our collection state.

Stripe's data may be 30 seconds old, older while Stripe is unavailable. Our own rows are
read each time.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.utils import timezone

from billing.clients.stripe.client import Invoice, Line, Stripe
from billing.clients.stripe.errors import StripeNotFound
from billing.clients.stripe.types import to_datetime
from billing.exceptions import UnknownInvoice
from billing.models import InvoiceCollection
from billing.services.collection.attempts import next_attempt_at
from billing.services.invoices.amounts import refunded_cents
from billing.services.invoices.cache import CachedInvoices, get_or_fetch
from billing.services.invoices.locks import Blocker, blockers_for_payer
from billing.services.invoices.payment_link import payment_url
from billing.services.invoices.records import billed_period
from lightning.services.live_payments import LivePayment, live_payments
from relays.models import Plan
from tenants.models import Tenant

_INVOICE_ID = re.compile(r"in_[A-Za-z0-9_]{1,100}")


@dataclass(frozen=True)
class InvoiceLine:
    """Line of an invoice. `plan` is the name of the plan with its price, or "".

    `plan_id` is the plan's id, or "".
    """

    description: str
    plan: str
    amount_cents: int
    quantity: int
    period_start: datetime
    period_end: datetime
    plan_id: str = ""


@dataclass(frozen=True)
class CollectionDetails:
    """Collection state of an invoice.

    `next_try_at` is the next attempt to charge wallet and card. `waiting` is a pending
    payment or reduction that blocks other payments. `lightning` is a Lightning payment
    that may still arrive. `owed_cents` is to be paid, with
    `dispute_debt_cents`, which Stripe's amounts do not have. `payment_url` leads to the
    receipt once paid; it is None when there is neither. `hold` is what keeps it from
    being finalized or owed at Stripe.
    """

    state: str
    hold: str
    paid_by: str
    suspend_at: datetime | None
    next_try_at: datetime | None
    lightning: LivePayment | None
    waiting: Blocker | None
    owed_cents: int
    dispute_debt_cents: int
    refunded_cents: int
    payment_url: str | None = field(repr=False)


@dataclass(frozen=True)
class InvoiceDetails:
    """Invoice as Stripe returned it at `fetched_at`, amounts in the minor unit.

    In a list `lines` has the first ten; `has_more_lines` is True if there are more.
    `collection` is None when the invoice is not collected by us.
    """

    id: str
    tenant_pubkey: str
    number: str
    status: str
    currency: str
    total_cents: int
    amount_due_cents: int
    amount_paid_cents: int
    amount_remaining_cents: int
    created_at: datetime
    due_at: datetime | None
    finalized_at: datetime | None
    paid_at: datetime | None
    period_start: datetime | None
    period_end: datetime | None
    hosted_url: str
    lines: tuple[InvoiceLine, ...]
    has_more_lines: bool
    collection: CollectionDetails | None
    fetched_at: datetime


def list_invoices(tenant: Tenant) -> list[InvoiceDetails]:
    """Return all invoices of a tenant's customer, newest first.

    Raises a StripeError when Stripe is unavailable and nothing is cached.
    """
    customer = tenant.stripe_customer_id
    if not customer:
        return []
    cached = _fetch_list(customer)
    ids = [invoice.id for invoice in cached.invoices]
    collections = InvoiceCollection.objects.in_bulk(ids)
    # Support may move a customer to another tenant; its older invoices stay behind.
    tenant_ids = dict.fromkeys(ids, tenant.pk)
    tenant_ids |= {pk: collection.tenant_id for pk, collection in collections.items()}
    invoices = _with_collections(cached, collections, tenant_ids)
    own = [invoice for invoice in invoices if invoice.tenant_pubkey == tenant.pk]
    return sorted(own, key=lambda invoice: invoice.created_at, reverse=True)


def has_invoice(pubkey: str, invoice_id: str) -> bool:
    """Return whether the invoice belongs to the tenant; False for an unknown tenant.

    Raises a StripeError when Stripe is unavailable and nothing is cached.
    """
    if not _INVOICE_ID.fullmatch(invoice_id):
        return False
    collections = InvoiceCollection.objects.filter(tenant=pubkey, pk=invoice_id)
    if collections.exists():
        return True
    tenants = Tenant.objects.filter(pk=pubkey)
    customer = tenants.values_list("stripe_customer_id", flat=True).first()
    if not customer:
        return False
    # Not by the invoice's id: response times would reveal invoices of other tenants.
    return any(invoice.id == invoice_id for invoice in _fetch_list(customer).invoices)


def _fetch_list(customer: str) -> CachedInvoices:
    return get_or_fetch(customer, lambda: Stripe().invoices.list(customer=customer))


def get_invoice(invoice_id: str) -> InvoiceDetails:
    """Return an invoice with all its lines.

    Raises UnknownInvoice, also when its customer belongs to no tenant, or a StripeError
    when Stripe is unavailable and nothing is cached.
    """
    return _details(
        invoice_id,
        lambda: get_or_fetch(invoice_id, lambda: [_fetch_with_all_lines(invoice_id)]),
    )


def fetch_invoice(invoice_id: str) -> InvoiceDetails:
    """Return an invoice as Stripe has it now, never from the cache.

    What we sign must not depend on who can write to Redis. Raises UnknownInvoice or a
    StripeError, see `get_invoice`.
    """
    return _details(
        invoice_id,
        lambda: CachedInvoices((_fetch_with_all_lines(invoice_id),), timezone.now()),
    )


def _details(invoice_id: str, read: Callable[[], CachedInvoices]) -> InvoiceDetails:
    # A malformed id could change the path of the request to Stripe.
    if not _INVOICE_ID.fullmatch(invoice_id):
        raise UnknownInvoice("There is no such invoice.")
    try:
        cached = read()
    except StripeNotFound as exc:
        raise UnknownInvoice("There is no such invoice.") from exc
    collections = InvoiceCollection.objects.in_bulk([invoice_id])
    tenant_id = _tenant_id_of(cached.invoices[0], collections.get(invoice_id))
    (invoice,) = _with_collections(cached, collections, {invoice_id: tenant_id})
    return invoice


def _fetch_with_all_lines(invoice_id: str) -> Invoice:
    # Stripe embeds only the first ten lines in an invoice.
    stripe = Stripe()
    invoice = stripe.invoices.get(invoice_id)
    if not invoice.has_more_lines:
        return invoice
    lines = tuple(stripe.invoices.list_lines(invoice_id))
    return replace(invoice, lines=lines, has_more_lines=False)


def _tenant_id_of(invoice: Invoice, collection: InvoiceCollection | None) -> str:
    # The row first: an invoice outlives its customer in Stripe.
    if collection is not None:
        return collection.tenant_id
    tenant = Tenant.objects.by_customer(invoice.customer).first()
    if tenant is None:
        raise UnknownInvoice("There is no such invoice.")
    return tenant.pk


def _with_collections(
    cached: CachedInvoices,
    collections: Mapping[str, InvoiceCollection],
    tenant_ids: Mapping[str, str],
) -> list[InvoiceDetails]:
    """Join invoices with their collections, in a constant number of queries."""
    unpaid = [pk for pk, collection in collections.items() if collection.is_unpaid]
    blockers, live = blockers_for_payer(unpaid), live_payments(unpaid)
    refunded = refunded_cents(collections)
    priced = Plan.objects.exclude(stripe_price_id=None)
    plans = {str(plan.stripe_price_id): plan for plan in priced}
    return [
        _invoice_details(
            invoice,
            tenant_id=tenant_ids[invoice.id],
            lines=_lines(invoice.lines, plans),
            collection=_collection_details(
                collections.get(invoice.id),
                blockers,
                live,
                refunded.get(invoice.id, 0),
            ),
            fetched_at=cached.fetched_at,
        )
        for invoice in cached.invoices
    ]


def _invoice_details(
    invoice: Invoice,
    *,
    tenant_id: str,
    lines: tuple[InvoiceLine, ...],
    collection: CollectionDetails | None,
    fetched_at: datetime,
) -> InvoiceDetails:
    period_start, period_end = billed_period(invoice.lines)
    return InvoiceDetails(
        id=invoice.id,
        tenant_pubkey=tenant_id,
        number=invoice.number,
        status=invoice.status,
        currency=invoice.currency,
        total_cents=invoice.total,
        amount_due_cents=invoice.amount_due,
        amount_paid_cents=invoice.amount_paid,
        amount_remaining_cents=invoice.amount_remaining,
        created_at=to_datetime(invoice.created),
        due_at=to_datetime(invoice.due_at),
        finalized_at=to_datetime(invoice.finalized_at),
        paid_at=to_datetime(invoice.paid_at),
        period_start=period_start,
        period_end=period_end,
        hosted_url=invoice.hosted_url,
        lines=lines,
        has_more_lines=invoice.has_more_lines,
        collection=collection,
        fetched_at=fetched_at,
    )


def _lines(lines: Iterable[Line], plans: Mapping[str, Plan]) -> tuple[InvoiceLine, ...]:
    return tuple(_line(line, plans.get(line.price)) for line in lines)


def _line(line: Line, plan: Plan | None) -> InvoiceLine:
    return InvoiceLine(
        description=line.description,
        plan=plan.name if plan else "",
        amount_cents=line.amount,
        quantity=line.quantity,
        period_start=to_datetime(line.period_start),
        period_end=to_datetime(line.period_end),
        plan_id=plan.pk if plan else "",
    )


def _collection_details(
    collection: InvoiceCollection | None,
    blockers: Mapping[str, Blocker],
    live: Mapping[str, LivePayment],
    refunded_cents: int,
) -> CollectionDetails | None:
    if collection is None:
        return None
    is_paid = collection.stripe_status == InvoiceCollection.Status.PAID
    has_receipt = is_paid and collection.total_cents > 0
    return CollectionDetails(
        state=collection.state,
        hold=collection.hold,
        paid_by=collection.paid_by,
        suspend_at=collection.suspend_at,
        next_try_at=next_attempt_at(collection),
        lightning=live.get(collection.pk),
        waiting=blockers.get(collection.pk),
        owed_cents=collection.owed_cents,
        dispute_debt_cents=collection.dispute_debt_cents,
        refunded_cents=refunded_cents,
        payment_url=payment_url(collection)
        if collection.is_unpaid or has_receipt
        else None,
    )
