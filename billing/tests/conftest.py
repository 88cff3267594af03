"""What pays: our wallet, tenants' wallets and prices of bitcoin, on real sockets."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.clients.stripe import transport
from billing.models import InvoiceCollection
from billing.services.collection.collect import collect_invoice
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.support.simulation.system import Ground, ground
from lightning.tests.conftest import (
    _prices,
    alice,
    relay,
    wallets,
)
from lightning.tests.conftest import (
    platform as own_wallet,
)
from lightning.tests.conftest import prices as rates
from relays.services.lifecycle import create_relay
from relays.tests.factories import RelayFactory
from sandbox.stripe.testing import WEBHOOK_SECRET, Sandbox
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

__all__ = ["_prices", "alice", "own_wallet", "rates", "relay", "wallets"]


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
def subscriber(prices) -> Tenant:
    """A tenant with one relay on the basic plan, and its first invoice, a draft."""
    tenant = TenantFactory()
    create_relay(tenant_id=tenant.pk, subdomain="first", plan_id="basic")
    sync_tenant(tenant_id=tenant.pk)
    tenant.refresh_from_db()
    return tenant


@pytest.fixture
def payable(prices, own_wallet, rates) -> InvoiceCollection:
    """An open invoice of $5 that nothing could be charged for: a person pays it."""
    tenant = RelayFactory().tenant
    sync_tenant(tenant_id=tenant.pk)
    row = InvoiceCollection.objects.get(tenant=tenant)
    collect_invoice(invoice_id=row.pk)
    row.refresh_from_db()
    return row


@pytest.fixture
def invoice(subscriber) -> InvoiceCollection:
    """An open invoice of $5."""
    row = InvoiceCollection.objects.get(tenant=subscriber)
    collect_invoice(invoice_id=row.pk)
    row.refresh_from_db()
    return row


@pytest.fixture
def worlds(relay, wallets, rates, settings, monkeypatch) -> Iterator[Ground]:
    """What worlds stand on, with the settings that they need."""
    monkeypatch.setattr(transport, "pause_for", lambda seconds: None)
    settings.STRIPE_MAX_REQUESTS_PER_SECOND = 100_000
    settings.STRIPE_WEBHOOK_SECRETS = [WEBHOOK_SECRET]
    # A wallet that is silent costs so many real seconds.
    settings.NWC_TIMEOUT = 0.5
    settings.NOSTR_ALLOW_PRIVATE_RELAYS = True
    settings.ROBOT_OUTBOX_RELAYS = settings.ROBOT_MESSAGING_RELAYS = [relay.url]
    settings.ROBOT_INDEXER_RELAYS = [relay.url]
    with ground(wallets, rates) as found:
        settings.STRIPE_API_BASE = found.stripe.url
        yield found


@pytest.fixture
def no_redis(settings) -> None:
    """A cache that nobody answers for."""
    cache = settings.CACHES["shared"]
    settings.CACHES = {
        **settings.CACHES,
        "shared": {**cache, "LOCATION": "redis://127.0.0.1:1/0"},
    }
