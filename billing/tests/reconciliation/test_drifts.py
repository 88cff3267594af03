"""A reconciliation finds the tenants that a sync would change, and no others."""

import random
from contextlib import suppress

import pytest
import stripe

from billing.services.subscriptions.sync import SyncOutcome, sync_tenant
from billing.services.sync.queue import mark_stale
from billing.tests.support.reconciliation.drifts import DRIFTS, Subject
from billing.tests.support.reconciliation.runs import reconcile, stale_tenants
from sandbox.stripe.api.errors import StripeError as SandboxError
from tenants.models import Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def subject(subscriber, sandbox) -> Subject:
    return Subject(sandbox, subscriber)


def would_change(subject: Subject) -> bool:
    """Sync the tenant as if it was stale; return whether that changed anything."""
    before = subject.snapshot()
    mark_stale(tenant_id=subject.tenant.pk)
    outcome = sync_tenant(tenant_id=subject.tenant.pk)
    return outcome is not SyncOutcome.IN_SYNC or subject.snapshot() != before


@pytest.mark.parametrize("name", DRIFTS)
def test_drift_is_found_with_its_reason_if_a_sync_would_change_something(subject, name):
    drift, reasons = DRIFTS[name]
    drift(subject)
    subject.hide()

    run = reconcile()

    assert set(run.drifted) == reasons
    assert (subject.tenant.pk in stale_tenants()) == bool(reasons)
    assert would_change(subject) == bool(reasons)


@pytest.mark.parametrize("seed", range(24))
def test_random_states_are_found_exactly_if_a_sync_would_change_them(subject, seed):
    rng = random.Random(seed)
    names = rng.sample(list(DRIFTS), rng.randint(2, 4))
    for name in names:
        subject.tenant = Tenant.objects.get(pk=subject.tenant.pk)
        # Some are not possible after another one.
        with suppress(stripe.InvalidRequestError, SandboxError):
            DRIFTS[name][0](subject)
    subject.hide()

    reasons = reconcile().drifted

    found = subject.tenant.pk in stale_tenants()
    assert found == would_change(subject), (names, reasons)
