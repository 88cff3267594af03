"""The open invoices of a tenant, as the page of one of them mentions and lists them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from billing.exceptions import UnknownInvoice
from billing.models import InvoiceCollection
from billing.models.collections import InvoiceCollectionQuerySet
from billing.money import format_amount
from billing.services.invoices import locks
from billing.services.invoices.payment_link import token_like

#: How long the link of a paid invoice still leads to the open ones: its page is also a
#: receipt, which may be passed on.
_LISTED_AFTER_PAYMENT = timedelta(days=1)


@dataclass(frozen=True)
class OpenInvoice:
    """Unpaid invoice; `keeps_relays_off` if it is past its grace period."""

    id: str
    number: str
    amount_cents: int
    currency: str
    suspend_at: datetime | None
    keeps_relays_off: bool

    @property
    def amount(self) -> str:
        return format_amount(self.amount_cents, self.currency)


@dataclass(frozen=True)
class OpenInvoiceLink:
    """Open invoice with the token of its page.

    `is_being_paid` while its page takes no payment, because another is in progress.
    """

    invoice: OpenInvoice
    token: str
    is_being_paid: bool


def other_open_invoices(invoice: InvoiceCollection) -> tuple[OpenInvoice, ...]:
    """Return the other unpaid invoices of an invoice's tenant, the most urgent first.

    None if the invoice was closed more than a day ago.
    """
    now = timezone.now()
    if invoice.closed_at and invoice.closed_at < now - _LISTED_AFTER_PAYMENT:
        return ()
    rows = InvoiceCollection.objects.unpaid().filter(tenant=invoice.tenant_id)
    return _open_invoices(rows.exclude(pk=invoice.pk))


def list_open_invoices(invoice_id: str, token: str) -> list[OpenInvoiceLink]:
    """Return the open invoices with links that expire together with `token`.

    Raises UnknownInvoice.
    """
    rows = InvoiceCollection.objects.filter(pk=invoice_id)
    invoice: InvoiceCollection | None = rows.first()
    if invoice is None:
        raise UnknownInvoice("There is no such invoice.")
    own = _open_invoices(rows.unpaid())
    listed = sorted([*own, *other_open_invoices(invoice)], key=_urgency)
    blocked = locks.blockers_for_payer([each.id for each in listed])
    return [
        OpenInvoiceLink(each, token_like(token, each.id), each.id in blocked)
        for each in listed
    ]


def total(invoices: Iterable[OpenInvoice]) -> str:
    """Return the formatted sum, one for each currency."""
    cents: Counter[str] = Counter()
    for invoice in invoices:
        cents[invoice.currency] += invoice.amount_cents
    return " and ".join(_amounts(cents))


def _amounts(cents: Counter[str]) -> Iterator[str]:
    for currency in sorted(cents):
        yield format_amount(cents[currency], currency)


def _open_invoices(rows: InvoiceCollectionQuerySet) -> tuple[OpenInvoice, ...]:
    unpaid = list(rows)
    if not unpaid:
        return ()
    overdue = set(rows.overdue(timezone.now()).values_list("pk", flat=True))
    # A Lightning payment has arrived: its payer must not think that it got lost.
    booking = locks.with_unbooked_payment([row.pk for row in unpaid])
    found = (
        _open_invoice(row, row.pk in overdue) for row in unpaid if row.pk not in booking
    )
    return tuple(sorted(found, key=_urgency))


def _urgency(invoice: OpenInvoice) -> tuple[bool, datetime | None, str]:
    return invoice.suspend_at is None, invoice.suspend_at, invoice.id


def _open_invoice(row: InvoiceCollection, is_overdue: bool) -> OpenInvoice:
    return OpenInvoice(
        id=row.pk,
        number=row.number or row.pk,
        amount_cents=row.owed_cents,
        currency=row.currency,
        suspend_at=row.suspend_at,
        keeps_relays_off=is_overdue,
    )
