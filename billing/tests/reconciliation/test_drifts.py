"""A reconciliation finds the tenants that a sync would change, and no others."""

import random
from contextlib import suppress

import pytest
import stripe

from billing.models import SubscriptionSync
from billing.services.subscriptions.sync import SyncOutcome, sync_tenant
from billing.services.sync.queue import mark_stale
from billing.tests.support.reconciliation.drifts import DRIFTS, Subject
from billing.tests.support.reconciliation.rare_drifts import RARE_DRIFTS
from billing.tests.support.reconciliation.runs import reconcile, stale_tenants
from billing.tests.support.subscriptions import rewrite_subscription
from sandbox.stripe.api.errors import StripeError as SandboxError
from sandbox.stripe.objects.subscriptions import (
    subscriptions as sandbox_subscriptions,
)
from tenants.models import Tenant

pytestmark = pytest.mark.django_db
ALL = DRIFTS | RARE_DRIFTS


@pytest.fixture
def subject(subscriber, sandbox) -> Subject:
    return Subject(sandbox, subscriber)


def would_change(subject: Subject) -> bool:
    """Sync the tenant as if it was stale; return whether that changed anything."""
    before = subject.snapshot()
    mark_stale(tenant_id=subject.tenant.pk)
    outcome = sync_tenant(tenant_id=subject.tenant.pk)
    return outcome is not SyncOutcome.IN_SYNC or subject.snapshot() != before


@pytest.mark.parametrize("name", ALL)
def test_drift_is_found_with_its_reason_if_a_sync_would_change_something(subject, name):
    drift, reasons = ALL[name]
    drift(subject)
    subject.hide()

    run = reconcile()

    assert set(run.drifted) == reasons
    assert (subject.tenant.pk in stale_tenants()) == bool(reasons)
    assert would_change(subject) == bool(reasons)


@pytest.mark.parametrize("seed", range(24))
def test_random_states_are_found_exactly_if_a_sync_would_change_them(subject, seed):
    rng = random.Random(seed)
    names = rng.sample(list(ALL), rng.randint(2, 4))
    for name in names:
        subject.tenant = Tenant.objects.get(pk=subject.tenant.pk)
        # Some are not possible after another one.
        with suppress(stripe.InvalidRequestError, SandboxError):
            ALL[name][0](subject)
    subject.hide()

    reasons = reconcile().drifted

    found = subject.tenant.pk in stale_tenants()
    assert found == would_change(subject), (names, reasons)
    assert heals(subject), (names, reasons)


def heals(subject: Subject) -> bool:
    """Return whether the syncs end: the next hour finds nothing, or one has failed."""
    for _ in range(4):
        row = SubscriptionSync.objects.get(pk=subject.tenant.pk)
        if not row.is_stale:
            reconcile()
            row.refresh_from_db()
        if row.failures or not row.is_stale:
            return True
        sync_tenant(tenant_id=subject.tenant.pk)
    return False


# "If no value is supplied, all subscriptions that have not been canceled are returned":
# https://docs.stripe.com/api/subscriptions/list
def test_end_of_an_expired_subscription_that_stripe_still_lists_is_recorded_once(
    subject, sandbox, monkeypatch
):
    monkeypatch.setattr(sandbox_subscriptions, "ENDED", frozenset({"canceled"}))
    subscription = str(subject.tenant.stripe_subscription_id)
    subject.create()
    subject.set_invoices(stripe_subscription_id=newest_subscription(sandbox))
    expired = {"status": "incomplete_expired", "ended_at": sandbox.now()}
    rewrite_subscription(sandbox, newest_subscription(sandbox), **expired)
    assert Tenant.objects.get().stripe_subscription_id == subscription

    assert reconcile().drifted == {"unnoticed_end": 1, "unknown_invoice": 1}
    sync_tenant(tenant_id=subject.tenant.pk)

    assert reconcile().drifted == {}


def newest_subscription(sandbox) -> str:
    return str(sandbox.client().v1.subscriptions.list({"status": "all"}).data[0].id)
