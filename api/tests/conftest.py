"""A tenant, a stranger and an operator, each with a key."""

import pytest

from api.tests.support.client import Person
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
from tenants.models import Tenant
from tenants.services.tenants import get_or_create_tenant

pytest.register_assert_rewrite("api.tests.support.schema_checks")

__all__ = ["_prices", "alice", "own_wallet", "rates", "relay", "wallets"]


@pytest.fixture
def ann(db) -> Person:
    """A tenant."""
    return _tenant()


@pytest.fixture
def ben(db) -> Person:
    """Another tenant."""
    return _tenant()


@pytest.fixture
def admin(db, settings) -> Person:
    """An operator, who is no tenant."""
    person = Person()
    settings.ADMIN_PUBKEYS = [person.pubkey]
    return person


@pytest.fixture
def tenant(ann) -> Tenant:
    return Tenant.objects.get(pk=ann.pubkey)


def _tenant() -> Person:
    person = Person()
    get_or_create_tenant(pubkey=person.pubkey)
    return person
