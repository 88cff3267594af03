"""Helpers for tests of the payment page."""

from functools import cache
from typing import Any

from billing.models import InvoiceCollection
from billing.services.invoices.payment_link import payment_url
from lightning.models import LightningInvoice


def path_of(invoice: InvoiceCollection) -> str:
    """Return the path of an invoice's page. Cached: tokens contain a timestamp."""
    return _path(invoice.pk)


def forget_paths() -> None:
    """Let each test have links of its own time: tests share the invoice's id."""
    _path.cache_clear()


@cache
def _path(invoice_id: str) -> str:
    url = payment_url(InvoiceCollection(pk=invoice_id))
    return "/pay/" + url.rsplit("/", 1)[1]


def text(response: Any) -> str:
    return str(response.content.decode())


def bolt11s() -> list[str]:
    return list(LightningInvoice.objects.values_list("bolt11", flat=True))
