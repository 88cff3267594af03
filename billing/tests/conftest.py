"""Fixtures: tenants with invoices, wallets and exchange rates on real sockets."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.clients.stripe import transport
from billing.models import InvoiceCollection
from billing.services.collection.collect import collect_invoice
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.support.saved_state import SavedState
from billing.tests.support.simulation.system import Servers, running_servers
from lightning.tests.support.fixtures import (
    _prices,
    alice,
    own_wallet,
    relay,
    wallets,
)
from lightning.tests.support.fixtures import prices as rates
from relays.services.lifecycle import create_relay
from relays.tests.factories import RelayFactory
from sandbox.stripe.client.testing import WEBHOOK_SECRET, Sandbox
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

__all__ = ["_prices", "alice", "own_wallet", "rates", "relay", "wallets"]

#: A saved state, with the id of its tenant or invoice.
State = SavedState[str]


class Clock:
    """One clock for this process and the sandbox Stripe."""

    def __init__(self, sandbox: Sandbox, traveller: time_machine.Traveller) -> None:
        self._sandbox = sandbox
        self._traveller = traveller

    def move(self, **delta: float) -> None:
        """Let time pass, also at Stripe."""
        self._traveller.shift(timedelta(**delta))
        self._sandbox.advance(0)


@pytest.fixture
def clock(sandbox) -> Iterator[Clock]:
    with time_machine.travel(timezone.now()) as traveller:
        yield Clock(sandbox, traveller)


@pytest.fixture(scope="module")
def _saved_tenant(_saved_prices, django_db_blocker) -> State:
    with django_db_blocker.unblock():
        state: State = _saved_prices.then(lambda: str(TenantFactory().pk))
    return state


@pytest.fixture(scope="module")
def _saved_subscriber(_saved_prices, django_db_blocker) -> State:
    with django_db_blocker.unblock():
        state: State = _saved_prices.then(_build_subscriber)
    return state


@pytest.fixture(scope="module")
def _saved_invoice(_saved_subscriber: State, django_db_blocker) -> State:
    with django_db_blocker.unblock():
        return _saved_subscriber.then(_collect_only_invoice)


@pytest.fixture(scope="module")
def _saved_open_invoice(_saved_prices, django_db_blocker) -> State:
    with django_db_blocker.unblock():
        state: State = _saved_prices.then(_build_open_invoice)
    return state


def _build_subscriber() -> str:
    tenant = TenantFactory()
    create_relay(tenant_id=tenant.pk, subdomain="first", plan_id="basic")
    sync_tenant(tenant_id=tenant.pk)
    return str(tenant.pk)


def _build_open_invoice() -> str:
    sync_tenant(tenant_id=RelayFactory().tenant_id)
    return _collect_only_invoice()


def _collect_only_invoice() -> str:
    invoice_id = str(InvoiceCollection.objects.get().pk)
    collect_invoice(invoice_id=invoice_id)
    return invoice_id


@pytest.fixture
def subscriber(prices, _saved_subscriber) -> Tenant:
    """A tenant with one relay on the basic plan and a draft as first invoice."""
    return Tenant.objects.get(pk=_saved_subscriber.restore())


@pytest.fixture
def open_invoice(prices, own_wallet, rates, _saved_open_invoice) -> InvoiceCollection:
    """An open invoice of $5 whose tenant has no wallet and no card."""
    return InvoiceCollection.objects.get(pk=_saved_open_invoice.restore())


@pytest.fixture
def invoice(subscriber, _saved_invoice) -> InvoiceCollection:
    """An open invoice of $5."""
    return InvoiceCollection.objects.get(pk=_saved_invoice.restore())


@pytest.fixture
def servers(relay, wallets, rates, settings, monkeypatch) -> Iterator[Servers]:
    """The servers of simulated systems, with their settings."""
    monkeypatch.setattr(transport, "pause_for", lambda seconds: None)
    settings.STRIPE_MAX_REQUESTS_PER_SECOND = 100_000
    settings.STRIPE_WEBHOOK_SECRETS = [WEBHOOK_SECRET]
    # Real seconds spent on each request to a silent wallet.
    settings.NWC_TIMEOUT = 0.5
    settings.NOSTR_ALLOW_PRIVATE_RELAYS = True
    settings.ROBOT_OUTBOX_RELAYS = settings.ROBOT_MESSAGING_RELAYS = [relay.url]
    settings.ROBOT_INDEXER_RELAYS = [relay.url]
    with running_servers(wallets, rates) as running:
        settings.STRIPE_API_BASE = running.stripe.url
        yield running


@pytest.fixture
def no_redis(settings) -> None:
    """A cache backend that cannot be reached."""
    cache = settings.CACHES["shared"]
    settings.CACHES = {
        **settings.CACHES,
        "shared": {**cache, "LOCATION": "redis://127.0.0.1:1/0"},
    }
