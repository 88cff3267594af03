"""Wallet payments that are due, made in bulk: no message about them is sent."""

import itertools
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.utils import timezone

from benchmarks.support.counterparts import Counterparts
from billing.models import InvoiceCollection
from caravel.nostr import generate_secret_key, pubkey_of
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.models import LightningInvoice, NwcPayment
from tenants.models import Tenant

#: Maximum number of payments in a request to the counterparts.
_CHUNK = 500
_CENTS, _MSAT = 1_000, 10_000_000
#: Seconds for which an invoice can be paid.
EXPIRY = 3_600
_numbers = itertools.count(1)


def create_due(
    counterparts: Counterparts, number: int, wallet_seconds: float
) -> dict[str, int]:
    """Create payments; return their ids by the names of the paying wallets.

    Each belongs to another tenant, whose wallet takes `wallet_seconds` to pay.
    """
    due: dict[str, int] = {}
    names = [f"wallet-{next(_numbers)}" for _ in range(number)]
    for start in range(0, number, _CHUNK):
        chunk = names[start : start + _CHUNK]
        urls = counterparts.create_wallets(chunk, seconds=wallet_seconds)
        due |= _store(chunk, urls, counterparts.issue(len(chunk), _MSAT, expiry=EXPIRY))
    return due


def _store(
    names: Sequence[str], urls: Sequence[str], issued: Sequence[tuple[str, str]]
) -> dict[str, int]:
    tenants = Tenant.objects.bulk_create(
        Tenant(pubkey=pubkey_of(generate_secret_key()), nwc_url=url) for url in urls
    )
    rows = list(zip(names, tenants, strict=True))
    InvoiceCollection.objects.bulk_create(_collection(*row) for row in rows)
    invoices = LightningInvoice.objects.bulk_create(
        _invoice(row, *each) for row, each in zip(rows, issued, strict=True)
    )
    payments = NwcPayment.objects.bulk_create(map(_payment, invoices, urls))
    keys = (payment.pk for payment in payments)
    return dict(zip(names, keys, strict=True))


def _collection(name: str, tenant: Tenant) -> InvoiceCollection:
    # It counts as enqueued: its task would need Stripe, which is not measured here.
    enqueued_at = timezone.now() + timedelta(seconds=EXPIRY)
    return InvoiceCollection(
        stripe_invoice_id=f"in_{name}",
        tenant=tenant,
        currency="usd",
        stripe_status=InvoiceCollection.Status.OPEN,
        state=InvoiceCollection.State.PENDING,
        created_at=timezone.now(),
        enqueued_at=enqueued_at,
    )


def _invoice(
    row: tuple[str, Tenant], bolt11: str, payment_hash: str
) -> LightningInvoice:
    name, tenant = row
    return LightningInvoice(
        tenant=tenant,
        stripe_invoice_id=f"in_{name}",
        amount_cents=_CENTS,
        currency="usd",
        amount_msat=_MSAT,
        rate=Decimal(100_000),
        bolt11=bolt11,
        payment_hash=payment_hash,
        wallet_pubkey=_own_pubkey(),
        expires_at=timezone.now() + timedelta(seconds=EXPIRY),
    )


def _own_pubkey() -> str:
    return parse_nwc_url(settings.ROBOT_WALLETS[0], private_allowed=True).pubkey


def _payment(invoice: LightningInvoice, url: str) -> NwcPayment:
    uri = parse_nwc_url(url, private_allowed=True)
    # So old that the sweep takes its message for lost.
    long_ago = timezone.now() - timedelta(seconds=settings.ENQUEUED_TIMEOUT)
    return NwcPayment(
        invoice=invoice,
        tenant_id=invoice.tenant_id,
        stripe_invoice_id=invoice.stripe_invoice_id,
        nwc_url=url,
        wallet_pubkey=uri.pubkey,
        client_pubkey=uri.client_pubkey,
        enqueued_at=long_ago,
    )
