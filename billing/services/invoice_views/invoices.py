"""What people read of their invoices: Stripe's side, and how we collect them.

Stripe's side may be half a minute old; ours is always as it is now.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from billing.clients.stripe.client import Invoice, Line, Stripe
from billing.exceptions import StripeNotFound, UnknownInvoice
from billing.models import InvoiceCollection
from billing.services.collection.attempts import next_attempt_at
from billing.services.invoices.cache import CachedInvoices, get_or_fetch
from billing.services.invoices.locks import Blocker, blockers_for_payer
from billing.services.invoices.payment_link import payment_url
from billing.services.invoices.records import billed_period
from lightning.services.invoices import live_until
from relays.models import Plan
from tenants.models import Tenant

_ID = re.compile(r"in_[A-Za-z0-9_]{1,100}")


@dataclass(frozen=True)
class LineView:
    """What is billed; `plan` is the name of ours that has this price, "" if none."""

    description: str
    plan: str
    amount_cents: int
    quantity: int
    period_start: datetime
    period_end: datetime


@dataclass(frozen=True)
class CollectionView:
    """How the collection of an invoice stands.

    `next_try_at` is when wallet and card have their next turn. `waiting` is what may be
    paying it just now, and until when if that is known; `lightning_until` until when a
    Lightning invoice that somebody was shown may be paid at the latest;
    `payment_url` is where a person pays it, None if there is nothing to pay.
    """

    state: str
    paid_by: str
    suspend_at: datetime | None
    next_try_at: datetime | None
    lightning_until: datetime | None
    waiting: Blocker | None
    payment_url: str | None = field(repr=False)


@dataclass(frozen=True)
class InvoiceView:
    """An invoice as Stripe had it at `asked_at`, amounts in the minor unit.

    `lines` are the first ten in a list of invoices, which `has_more_lines` tells.
    `collection` is None of one that is not collected by us.
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
    lines: tuple[LineView, ...]
    has_more_lines: bool
    collection: CollectionView | None
    asked_at: datetime


def list_invoices(tenant: Tenant) -> list[InvoiceView]:
    """Return all invoices of a tenant's customer, newest first; [] without one.

    Those that the customer had as another tenant's stay that one's. Raises a
    StripeError when Stripe is away and nothing is remembered.
    """
    customer = tenant.stripe_customer_id
    if not customer:
        return []
    found = _listed(customer)
    ids = [invoice.id for invoice in found.invoices]
    collections = InvoiceCollection.objects.in_bulk(ids)
    owners = dict.fromkeys(ids, tenant.pk)
    owners |= {pk: collection.tenant_id for pk, collection in collections.items()}
    views = _views(found, collections, owners)
    mine = [view for view in views if view.tenant_pubkey == tenant.pk]
    return sorted(mine, key=lambda view: view.created_at, reverse=True)


def has_invoice(pubkey: str, invoice_id: str) -> bool:
    """Return whether an invoice is a tenant's; False if there is no such tenant.

    At Stripe only the list of its own customer's is looked through. Raises a
    StripeError when Stripe is away and nothing is remembered.
    """
    if not _ID.fullmatch(invoice_id):
        return False
    collections = InvoiceCollection.objects.filter(tenant=pubkey, pk=invoice_id)
    if collections.exists():
        return True
    tenants = Tenant.objects.filter(pk=pubkey)
    customer = tenants.values_list("stripe_customer_id", flat=True).first()
    if not customer:
        return False
    return any(invoice.id == invoice_id for invoice in _listed(customer).invoices)


def _listed(customer: str) -> CachedInvoices:
    return get_or_fetch(customer, lambda: Stripe().list_invoices(customer=customer))


def get_invoice(invoice_id: str) -> InvoiceView:
    """Return an invoice with all its lines.

    Raises UnknownInvoice, also for one of a customer that is no tenant's, or a
    StripeError when Stripe is away and nothing is remembered.
    """
    if not _ID.fullmatch(invoice_id):
        raise UnknownInvoice("There is no such invoice.")
    try:
        found = get_or_fetch(invoice_id, lambda: [_whole(invoice_id)])
    except StripeNotFound as exc:
        raise UnknownInvoice("There is no such invoice.") from exc
    collections = InvoiceCollection.objects.in_bulk([invoice_id])
    owner = _owner(found.invoices[0], collections.get(invoice_id))
    (view,) = _views(found, collections, {invoice_id: owner})
    return view


def _whole(invoice_id: str) -> Invoice:
    stripe = Stripe()
    found = stripe.get_invoice(invoice_id)
    if not found.has_more_lines:
        return found
    lines = tuple(stripe.list_lines(invoice_id))
    return replace(found, lines=lines, has_more_lines=False)


def _owner(found: Invoice, collection: InvoiceCollection | None) -> str:
    """Return whose an invoice is: it may outlive its customer."""
    if collection is not None:
        return collection.tenant_id
    tenant = Tenant.objects.by_customer(found.customer).first()
    if tenant is None:
        raise UnknownInvoice("There is no such invoice.")
    return tenant.pk


def _views(
    found: CachedInvoices,
    collections: Mapping[str, InvoiceCollection],
    owners: Mapping[str, str],
) -> list[InvoiceView]:
    """Return invoices with what we know of them, in a constant number of queries."""
    unpaid = [pk for pk, collection in collections.items() if collection.is_unpaid]
    waiting, lightning = blockers_for_payer(unpaid), live_until(unpaid)
    priced = Plan.objects.exclude(stripe_price_id=None)
    plans = {str(plan.stripe_price_id): plan.name for plan in priced}
    return [
        _view(
            invoice,
            owner=owners[invoice.id],
            lines=_lines(invoice.lines, plans),
            collection=_collection(collections.get(invoice.id), waiting, lightning),
            asked_at=found.asked_at,
        )
        for invoice in found.invoices
    ]


def _view(
    invoice: Invoice,
    *,
    owner: str,
    lines: tuple[LineView, ...],
    collection: CollectionView | None,
    asked_at: datetime,
) -> InvoiceView:
    period_start, period_end = billed_period(invoice.lines)
    return InvoiceView(
        id=invoice.id,
        tenant_pubkey=owner,
        number=invoice.number,
        status=invoice.status,
        currency=invoice.currency,
        total_cents=invoice.total,
        amount_due_cents=invoice.amount_due,
        amount_paid_cents=invoice.amount_paid,
        amount_remaining_cents=invoice.amount_remaining,
        created_at=_time(invoice.created),
        due_at=_maybe(invoice.due_at),
        finalized_at=_maybe(invoice.finalized_at),
        paid_at=_maybe(invoice.paid_at),
        period_start=period_start,
        period_end=period_end,
        hosted_url=invoice.hosted_url,
        lines=lines,
        has_more_lines=invoice.has_more_lines,
        collection=collection,
        asked_at=asked_at,
    )


def _lines(lines: Iterable[Line], plans: Mapping[str, str]) -> tuple[LineView, ...]:
    return tuple(
        LineView(
            description=line.description,
            plan=plans.get(line.price, ""),
            amount_cents=line.amount,
            quantity=line.quantity,
            period_start=_time(line.period_start),
            period_end=_time(line.period_end),
        )
        for line in lines
    )


def _collection(
    collection: InvoiceCollection | None,
    waiting: Mapping[str, Blocker],
    lightning_until: Mapping[str, datetime],
) -> CollectionView | None:
    if collection is None:
        return None
    return CollectionView(
        state=collection.state,
        paid_by=collection.paid_by,
        suspend_at=collection.suspend_at,
        next_try_at=next_attempt_at(collection),
        lightning_until=lightning_until.get(collection.pk),
        waiting=waiting.get(collection.pk),
        payment_url=payment_url(collection) if collection.is_unpaid else None,
    )


def _maybe(seconds: int | None) -> datetime | None:
    return None if seconds is None else _time(seconds)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
