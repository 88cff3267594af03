"""Lightning invoices, wallet payments, and what proves how they ended."""

from lightning.models.invoices import LightningInvoice, LightningInvoiceQuerySet
from lightning.models.own_wallets import WalletProof
from lightning.models.payments import NwcPayment, NwcPaymentQuerySet
from lightning.models.resolutions import Resolution

__all__ = [
    "LightningInvoice",
    "LightningInvoiceQuerySet",
    "NwcPayment",
    "NwcPaymentQuerySet",
    "Resolution",
    "WalletProof",
]
