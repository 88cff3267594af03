"""What pays: our wallet, tenants' wallets and prices of bitcoin, on real sockets."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.services.subscriptions import sync_tenant
from lightning.tests.conftest import (
    _prices,
    alice,
    platform,
    relay,
    wallets,
)
from lightning.tests.conftest import prices as rates
from relays.services.lifecycle import create_relay
from sandbox.stripe.testing import Sandbox
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

__all__ = ["_prices", "alice", "platform", "rates", "relay", "wallets"]


class Clock:
    """The time here and at Stripe, which is one."""

    def __init__(self, sandbox: Sandbox, traveller: time_machine.Traveller) -> None:
        self._sandbox = sandbox
        self._traveller = traveller

    def move(self, **delta: float) -> None:
        """Let so much time pass; what is due at Stripe happens."""
        self._traveller.shift(timedelta(**delta))
        self._sandbox.advance(0)


@pytest.fixture
def clock(sandbox) -> Iterator[Clock]:
    with time_machine.travel(timezone.now()) as traveller:
        yield Clock(sandbox, traveller)


@pytest.fixture
def billed(prices) -> Tenant:
    """A tenant with one relay on the basic plan, and its first invoice, a draft."""
    tenant = TenantFactory()
    create_relay(tenant_id=tenant.pk, subdomain="first", plan_id="basic")
    sync_tenant(tenant_id=tenant.pk)
    tenant.refresh_from_db()
    return tenant
