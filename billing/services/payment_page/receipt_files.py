"""A paid invoice's receipt as files: PDF for people, JSON for programs."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module

from billing.services.invoice_views.invoices import fetch_invoice
from billing.services.invoice_views.receipts import Receipt, build_receipt
from tenants.models import Tenant


@dataclass(frozen=True)
class ReceiptFile:
    """A file to download."""

    name: str
    content_type: str
    content: bytes = field(repr=False)


def receipt_file(invoice_id: str, extension: str) -> ReceiptFile:
    """Return the receipt as a file, from what Stripe and our own rows say now.

    Raises UnknownInvoice, InvoiceNotPaid, or a StripeError when Stripe is unavailable.
    """
    receipt = build_receipt(invoice_id)
    content_type, write = _FORMATS[extension]
    name = f"receipt-{receipt.number or receipt.invoice_id}.{extension}"
    return ReceiptFile(name, content_type, write(receipt))


def _json(receipt: Receipt) -> bytes:
    """Return the receipt as the API has it in `event`, and its content beside it."""
    data = receipt.to_dict()
    data["event"] = data.pop("signed")
    return json.dumps(data, ensure_ascii=False, indent=2).encode()


def _pdf(receipt: Receipt) -> bytes:
    invoice = fetch_invoice(receipt.invoice_id)
    tenant = Tenant.objects.get(pk=receipt.tenant_pubkey)
    # Not at the top: it takes a quarter of a second and 22 MB, in each process that
    # knows the address of the file.
    receipt_pdf = import_module("billing.services.payment_page.receipt_pdf").receipt_pdf
    return bytes(
        receipt_pdf(
            receipt, invoice, tenant_name=tenant.display_name, attachment=_json(receipt)
        )
    )


_FORMATS: Mapping[str, tuple[str, Callable[[Receipt], bytes]]] = {
    "pdf": ("application/pdf", _pdf),
    "json": ("application/json", _json),
}
