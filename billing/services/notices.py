"""Placeholder."""

from billing.models import InvoiceCollection


def withdraw(collection: InvoiceCollection) -> None:
    pass


def tell_payment_failed(collection: InvoiceCollection) -> None:
    pass


def tell_invoice_due(collection: InvoiceCollection) -> None:
    pass
