"""A tenant's whole way: its wallet is connected by its address, then pays."""

from lightning.models import NwcPayment
from lightning.services.wallets import connect_wallet
from lightning.tests.factories import make_payment_request
from lightning.tests.support.payments import run_payment, start_payment
from tenants.tests.factories import TenantFactory


def connect_and_pay(url: str) -> NwcPayment:
    tenant = TenantFactory()
    connect_wallet(pubkey=tenant.pk, nwc_url=url)
    payment = start_payment(make_payment_request(tenant))
    return run_payment(payment_id=payment.pk)
