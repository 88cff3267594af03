import itertools
from datetime import timedelta

from django.utils import timezone

from lightning.models import LightningInvoice
from lightning.services.invoices import PaymentRequest
from lightning.services.wallets import connect_wallet
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

_numbers = itertools.count(1)


def tenant_with(wallet=None) -> Tenant:
    """Return a tenant, connected to a sandbox wallet if one is given."""
    tenant = TenantFactory()
    if wallet is not None:
        connect_wallet(pubkey=tenant.pk, nwc_url=wallet.url)
        tenant.refresh_from_db()
    return tenant


def make_payment_request(
    tenant, amount_cents=2_100, currency="usd", **fields
) -> PaymentRequest:
    number = next(_numbers)
    return PaymentRequest(
        **{
            "tenant_id": tenant.pk,
            "stripe_invoice_id": f"in_{number}",
            "amount_cents": amount_cents,
            "currency": currency,
            "description": f"Caravel invoice {number}",
            **fields,
        }
    )


def make_invoice(tenant, wallet_pubkey, **fields) -> LightningInvoice:
    """Create an invoice in the database only: no wallet has issued it."""
    invoice = _build_invoice(tenant, wallet_pubkey, **fields)
    invoice.save(force_insert=True)
    return invoice


def make_invoices(tenant, wallet_pubkey, rows) -> list[LightningInvoice]:
    """Create an invoice for each row of fields, without telling billing of it."""
    invoices = [_build_invoice(tenant, wallet_pubkey, **fields) for fields in rows]
    return LightningInvoice.objects.bulk_create(invoices)


def _build_invoice(tenant, wallet_pubkey, **fields) -> LightningInvoice:
    number = next(_numbers)
    now = timezone.now()
    return LightningInvoice(
        **{
            "tenant": tenant,
            "stripe_invoice_id": f"in_{number}",
            "amount_cents": 2_100,
            "currency": "usd",
            "amount_msat": 21_000_000,
            "rate": 100_000,
            "bolt11": f"lnbcrt{number}",
            "payment_hash": f"{number:064x}",
            "wallet_pubkey": wallet_pubkey,
            "expires_at": now + timedelta(seconds=900),
            **fields,
        }
    )
