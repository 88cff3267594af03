"""Invoices that people look at, and how they get at them."""

from functools import cache
from typing import Any

from billing.models import InvoiceCollection
from billing.services.invoices.payment_link import payment_url
from lightning.models import LightningInvoice
from lightning.services.invoices import PaymentRequest


def path_of(invoice: InvoiceCollection) -> str:
    """Return where the page of an invoice is, the same at each call.

    Links that are made in different seconds differ.
    """
    return _path(invoice.pk)


@cache
def _path(invoice_id: str) -> str:
    link = payment_url(InvoiceCollection(pk=invoice_id))
    return "/pay/" + link.rsplit("/", 1)[1]


def text(answer: Any) -> str:
    return str(answer.content.decode())


def bolt11s() -> list[str]:
    return list(LightningInvoice.objects.values_list("bolt11", flat=True))


def bill(invoice: InvoiceCollection) -> PaymentRequest:
    """Return what is to be paid, in its full amount."""
    amount = invoice.amount_remaining_cents
    return PaymentRequest(
        invoice.tenant_id, invoice.pk, amount, invoice.currency, "Invoice"
    )
