"""A tenant whose invoice of $25 was paid by card."""

import pytest

from billing.models import InvoiceCollection
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.support.collection import collection_of
from billing.tests.support.reversals import charge_of, pay_by_card
from billing.tests.support.saved_state import SavedState
from relays.services.lifecycle import create_relay
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory


@pytest.fixture(scope="module")
def _saved_payer(_saved_prices, _sandbox, django_db_blocker) -> SavedState[str]:
    with django_db_blocker.unblock():
        state: SavedState[str] = _saved_prices.then(lambda: _build_payer(_sandbox[0]))
    return state


def _build_payer(sandbox) -> str:
    tenant = TenantFactory()
    create_relay(tenant_id=tenant.pk, subdomain="first", plan_id="growth")
    sync_tenant(tenant_id=tenant.pk)
    tenant.refresh_from_db()
    pay_by_card(sandbox, tenant)
    return str(tenant.pk)


@pytest.fixture
def payer(prices, own_wallet, rates, _saved_payer) -> Tenant:
    """A tenant with a relay of $25 a month, paid by card."""
    return Tenant.objects.get(pk=_saved_payer.restore())


@pytest.fixture
def paid(payer) -> InvoiceCollection:
    return collection_of(payer)


@pytest.fixture
def charge(sandbox, paid) -> str:
    return charge_of(sandbox, paid)
