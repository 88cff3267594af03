"""Helpers for tests of the payment page."""

from functools import cache
from typing import Any

from billing.models import InvoiceCollection
from billing.services.invoices.payment_link import payment_link
from lightning.models import LightningInvoice
from lightning.services.invoices import PaymentRequest


def path_of(invoice: InvoiceCollection) -> str:
    """Return the path of an invoice's page, the same at each call.

    Cached: the link's signature has a timestamp, so later links differ.
    """
    return _path(invoice.pk)


@cache
def _path(invoice_id: str) -> str:
    link = payment_link(InvoiceCollection(pk=invoice_id))
    return "/pay/" + link.rsplit("/", 1)[1]


def text(answer: Any) -> str:
    return str(answer.content.decode())


def bolt11s() -> list[str]:
    return list(LightningInvoice.objects.values_list("bolt11", flat=True))


def bill(invoice: InvoiceCollection) -> PaymentRequest:
    """Return a payment request for the full remaining amount."""
    amount = invoice.amount_remaining_cents
    return PaymentRequest(
        invoice.tenant_id, invoice.pk, amount, invoice.currency, "Invoice"
    )
