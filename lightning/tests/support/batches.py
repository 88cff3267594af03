"""Attempts by several wallets, and one batch of them."""

from lightning.models import NwcPayment
from lightning.services.payments import run_payments
from lightning.tests.factories import make_payment_request, tenant_with
from lightning.tests.support.payments import start_payment


def start_payments(wallets, *names) -> list[NwcPayment]:
    """Start an attempt by a new wallet for each name."""
    created = [wallets.create(name, balance_msat=10**9) for name in names]
    tenants = [tenant_with(wallet) for wallet in created]
    return [start_payment(make_payment_request(tenant)) for tenant in tenants]


def run_batch(due) -> list[str]:
    """Run attempts in one batch; return their states."""
    run_payments(payment_ids=[payment.pk for payment in due])
    return states_of(due)


def states_of(due) -> list[str]:
    rows = NwcPayment.objects.in_bulk([payment.pk for payment in due])
    return [rows[payment.pk].state for payment in due]
