"""A reconciliation against the sandbox Stripe over HTTP."""

import pytest

from billing.models import SubscriptionSync
from billing.tests.support.reconciliation import reconcile, stale_tenants
from billing.tests.support.subscriptions import add_relay, sync
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(prices):
    return TenantFactory(display_name="Alice")


def test_tenant_in_sync_is_left_alone(sandbox, tenant):
    add_relay(tenant)
    sync(tenant)

    run = reconcile()

    assert run.drifted == {}
    assert (run.requests, run.subscriptions, run.stale_tenants) == (1, 1, 0)
    assert stale_tenants() == set()
    assert SubscriptionSync.objects.get(pk=tenant.pk).version == 2
