"""What the page shows where a person pays an invoice. Looking at it issues nothing."""

from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from billing.exceptions import UnknownInvoice
from billing.models import InvoiceCollection
from billing.services.amounts import format_amount
from billing.services.exclusion import Busy, busy_for_person
from lightning.models import LightningInvoice
from relays.models import Relay


@dataclass(frozen=True)
class InvoicePage:
    """An invoice for a person; `offer` is the bolt11 that was shown and still pays it.

    `waiting` says what may be paying it just now, and until when if that is known.
    """

    number: str
    amount: str
    state: str
    is_payable: bool
    is_overdue: bool
    relays_run: bool
    until: datetime | None
    hosted_url: str
    offer: LightningInvoice | None
    waiting: Busy | None

    @property
    def sats(self) -> int:
        """What the bolt11 asks for: those that we issue are in whole sats."""
        return self.offer.amount_msat // 1000 if self.offer else 0

    @property
    def again_at(self) -> datetime | None:
        """When to look again at what is waited for, None if nobody can say."""
        until = self.waiting.until if self.waiting else None
        return until if until and until > timezone.now() else None


def invoice_page(invoice_id: str) -> InvoicePage:
    """Return what a person is shown of an invoice as it was last read.

    Raises UnknownInvoice.
    """
    collection = InvoiceCollection.objects.filter(pk=invoice_id).first()
    if collection is None:
        raise UnknownInvoice("There is no such invoice.")
    is_payable = collection.is_unpaid
    until = collection.suspend_at
    offer = _on_offer(collection.pk) if is_payable else None
    waiting = busy_for_person(collection.pk) if is_payable and not offer else None
    asked = collection.amount_remaining_cents or collection.amount_due_cents
    return InvoicePage(
        number=collection.number or collection.pk,
        amount=format_amount(asked, collection.currency),
        state=collection.get_status_display().lower(),
        is_payable=is_payable,
        is_overdue=until is not None and until <= timezone.now(),
        relays_run=Relay.objects.billable()
        .filter(tenant=collection.tenant_id)
        .exists(),
        until=until,
        hosted_url=collection.hosted_invoice_url,
        offer=offer,
        waiting=waiting,
    )


def _on_offer(invoice_id: str) -> LightningInvoice | None:
    """Return the bolt11 that a person has been shown and may still pay."""
    open_ones = LightningInvoice.objects.of(invoice_id).open()
    shown = open_ones.filter(shown_at__isnull=False, expires_at__gt=timezone.now())
    found: LightningInvoice | None = shown.first()
    return found
