"""API clients: two tenants and an operator."""

import pytest

from api.tests.support.client import ApiClient
from lightning.tests.support.fixtures import (
    _prices,
    alice,
    own_wallet,
    relay,
    wallets,
)
from lightning.tests.support.fixtures import prices as rates
from tenants.models import Tenant
from tenants.services.tenants import get_or_create_tenant

pytest.register_assert_rewrite("api.tests.support.schema_checks")

__all__ = ["_prices", "alice", "own_wallet", "rates", "relay", "wallets"]


@pytest.fixture
def ann(db) -> ApiClient:
    """A tenant."""
    return _tenant_client()


@pytest.fixture
def ben(db) -> ApiClient:
    """Another tenant."""
    return _tenant_client()


@pytest.fixture
def admin(db, settings) -> ApiClient:
    """An operator without a tenant account."""
    client = ApiClient()
    settings.ADMIN_PUBKEYS = [client.pubkey]
    return client


@pytest.fixture
def tenant(ann) -> Tenant:
    return Tenant.objects.get(pk=ann.pubkey)


def _tenant_client() -> ApiClient:
    client = ApiClient()
    get_or_create_tenant(pubkey=client.pubkey)
    return client
