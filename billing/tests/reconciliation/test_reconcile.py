"""Runs of the reconciliation: when they begin, who works on them, what they skip."""

from datetime import timedelta

import pytest
import time_machine
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.models import ReconciliationRun, SubscriptionSync
from billing.services.reconciliation import reconcile
from billing.services.reconciliation.listing import Listing
from billing.services.reconciliation.reconcile import (
    RunOutcome,
    begin_due_run,
    begin_run,
    continue_run,
)
from billing.services.subscriptions.sync import sync_tenant
from billing.tasks import (
    reconcile_subscriptions,
    run_reconciliation,
    sweep_reconciliations,
    sweep_stale_tenants,
)
from billing.tests.support.admin import admin_url
from billing.tests.support.reconciliation.runs import reconcile as reconcile_now
from billing.tests.support.reconciliation.runs import stale_tenants
from billing.tests.support.subscriptions import (
    add_relay,
    create_subscription_at_stripe,
    live_items,
    sync,
)
from caravel.core.db.leases import Lease
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db
PERIOD = timedelta(hours=1)


@pytest.fixture
def tenant(prices):
    return TenantFactory(display_name="Alice")


@pytest.fixture
def sent(monkeypatch) -> list[int]:
    """Ids of the runs for which a message was sent."""
    ids: list[int] = []
    monkeypatch.setattr(
        run_reconciliation,
        "apply_async",
        lambda args=(), kwargs=None, **options: ids.append(args[0]),
    )
    return ids


@pytest.fixture
def after_listing(monkeypatch):
    """Do something between the list and the comparison."""

    def arrange(work):
        def read(listing):
            done = list_all(listing)
            work()
            return done

        monkeypatch.setattr(Listing, "read", read)

    list_all = Listing.read
    return arrange


def hide_staleness(tenant: Tenant) -> None:
    rows = SubscriptionSync.objects.filter(pk=tenant.pk)
    rows.update(synced_version=F("version"), enqueued_at=None)


def drift(tenant: Tenant) -> None:
    """Add a relay of which no receiver has told."""
    add_relay(tenant)
    hide_staleness(tenant)


# --- what is found


def test_tenant_in_sync_is_left_alone(sandbox, tenant):
    add_relay(tenant)
    row = sync(tenant)

    run = reconcile_now()

    assert run.drifted == {}
    assert (run.requests, run.subscriptions, run.stale_tenants) == (1, 1, 0)
    assert SubscriptionSync.objects.get(pk=tenant.pk).version == row.version


def test_drift_is_healed_by_the_sync_that_it_makes_due(sandbox, tenant, prices):
    add_relay(tenant)
    sync(tenant)
    drift(tenant)

    run = reconcile_now()
    assert SubscriptionSync.objects.stale().claim(now=timezone.now()) == [tenant.pk]
    sync_tenant(tenant_id=tenant.pk)

    assert (run.drifted, run.stale_tenants) == ({"quantity": 1}, 1)
    assert live_items(sandbox, tenant) == {prices["basic"]: 2}
    assert reconcile_now().drifted == {}


def test_drifts_of_many_tenants_are_found_in_several_queries(
    sandbox, prices, monkeypatch
):
    monkeypatch.setattr(reconcile, "_CHUNK", 2)
    tenants = [TenantFactory() for _ in range(5)]
    for tenant in tenants:
        add_relay(tenant)
        sync(tenant)
    for tenant in tenants[1:4]:
        drift(tenant)

    run = reconcile_now()

    assert run.drifted == {"quantity": 3}
    assert stale_tenants() == {tenant.pk for tenant in tenants[1:4]}


def test_number_of_queries_does_not_grow_with_the_tenants(sandbox, prices):
    def count() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            reconcile_now()
        return len(queries)

    sync_new_tenant()
    before = count()
    for _ in range(3):
        sync_new_tenant()

    assert count() == before


def sync_new_tenant() -> Tenant:
    tenant = TenantFactory()
    add_relay(tenant)
    sync(tenant)
    return tenant


def test_tenant_without_a_row_gets_one_and_is_found(sandbox, tenant):
    add_relay(tenant)
    SubscriptionSync.objects.all().delete()

    run = reconcile_now()

    assert run.drifted == {"missing": 1, "customer_missing": 1}
    assert stale_tenants() == {tenant.pk}


def test_changed_domain_of_placeholder_addresses_is_found(sandbox, tenant, settings):
    add_relay(tenant)
    sync(tenant)
    settings.BILLING_EMAIL_DOMAIN = "other.example"

    assert reconcile_now().drifted == {"customer_details": 1}
    sync_tenant(tenant_id=tenant.pk)
    assert reconcile_now().drifted == {}


def test_foreign_subscription_is_found_once(sandbox, tenant, prices):
    add_relay(tenant)
    sync(tenant)
    create_subscription_at_stripe(sandbox, tenant, prices["basic"], metadata={})

    assert reconcile_now().drifted == {"not_ours": 1}
    sync_tenant(tenant_id=tenant.pk)
    assert reconcile_now().drifted == {}


def test_subscription_of_another_customer_that_names_a_tenant_is_told_once(
    sandbox, tenant, prices, caplog
):
    add_relay(tenant)
    sync(tenant)
    customer = sandbox.client().v1.customers.create({"email": "a@b.example"}).id
    create_subscription_at_stripe(sandbox, tenant, prices["basic"], customer=customer)

    assert reconcile_now().drifted == {"other_customer": 1}
    assert caplog.text.count("subscription_of_other_customer") == 1
    assert reconcile_now().drifted == {"other_customer": 1}
    assert caplog.text.count("subscription_of_other_customer") == 1
    assert stale_tenants() == set()


# --- what is left out


def test_failed_sync_is_left_to_its_own_retry(sandbox, tenant):
    add_relay(tenant)
    lease = Lease.acquire(SubscriptionSync, tenant.pk)
    assert lease
    lease.release_failed(ValueError("no"))
    before = SubscriptionSync.objects.values().get(pk=tenant.pk)

    assert reconcile_now().drifted == {}
    assert SubscriptionSync.objects.values().get(pk=tenant.pk) == before


def test_tenant_synced_since_it_was_listed_is_not_synced_again(
    sandbox, tenant, after_listing
):
    add_relay(tenant)
    sync(tenant)

    def change():
        add_relay(tenant)
        sync(tenant)

    after_listing(change)

    assert reconcile_now().drifted == {}
    assert stale_tenants() == set()


def test_tenant_whose_relays_changed_since_it_was_listed_has_one_sync_to_come(
    sandbox, tenant, after_listing
):
    add_relay(tenant)
    sync(tenant)
    after_listing(lambda: add_relay(tenant))

    assert reconcile_now().drifted == {}
    assert stale_tenants() == {tenant.pk}


def test_subscription_that_ended_since_it_was_listed_is_not_missed(
    sandbox, tenant, after_listing
):
    add_relay(tenant)
    sync(tenant)
    api = sandbox.client().v1.subscriptions
    after_listing(lambda: api.cancel(tenant.stripe_subscription_id))

    assert reconcile_now().drifted == {}
    after_listing(lambda: None)
    assert reconcile_now().drifted == {"ended": 1, "missing": 1}


# --- when a run begins, and who works on it


def test_run_begins_once_a_period(sandbox, sent, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        run = begin_due_run()
    assert run
    assert sent == [run.pk]
    continue_run(run_id=run.pk)

    assert begin_due_run() is None
    with time_machine.travel(timezone.now() + PERIOD - timedelta(seconds=1)):
        next_run = begin_due_run()
    assert next_run
    assert next_run != run


def test_unfinished_run_is_joined(sandbox, sent, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        first, second, third = begin_run(), begin_run(), begin_due_run()

    assert first == second == third
    assert sent == [first.pk]


def test_only_one_run_is_unfinished():
    begin_run()

    with pytest.raises(IntegrityError), transaction.atomic():
        ReconciliationRun.objects.create()


def test_only_one_worker_continues_a_run(sandbox):
    run = begin_run()
    assert Lease.acquire(ReconciliationRun, run.pk)

    assert continue_run(run_id=run.pk) == RunOutcome.NOT_DUE


def test_run_of_a_worker_that_died_is_continued_by_the_sweep(sandbox, sent):
    run = begin_run()
    assert Lease.acquire(ReconciliationRun, run.pk)

    with time_machine.travel(timezone.now() + timedelta(minutes=6)):
        sweep_reconciliations()
        assert sent == [run.pk]
        assert continue_run(run_id=run.pk) == RunOutcome.FINISHED


def test_run_is_continued_after_the_time_of_a_task(
    sandbox, tenant, sent, django_capture_on_commit_callbacks
):
    add_relay(tenant)
    sync(tenant)
    drift(tenant)
    run = begin_run()

    with django_capture_on_commit_callbacks(execute=True):
        assert continue_run(run_id=run.pk, max_seconds=0) == RunOutcome.CONTINUED
    assert sent == [run.pk]
    assert continue_run(run_id=run.pk) == RunOutcome.FINISHED
    assert continue_run(run_id=run.pk) == RunOutcome.NOT_DUE

    run.refresh_from_db()
    assert (run.requests, run.drifted) == (1, {"quantity": 1})


def test_unexpected_error_is_recorded_and_the_run_continued_later(
    sandbox, after_listing
):
    def fail():
        raise ZeroDivisionError("oops")

    after_listing(fail)
    run = begin_run()

    with pytest.raises(ZeroDivisionError):
        continue_run(run_id=run.pk)

    run.refresh_from_db()
    assert (run.last_error, run.lease_until) == ("oops", None)
    after_listing(lambda: None)
    with time_machine.travel(run.next_attempt_at):
        assert continue_run(run_id=run.pk) == RunOutcome.FINISHED


def test_support_is_told_of_a_run_that_does_not_end(caplog):
    begin_run()
    assert "reconciliation_stuck" not in caplog.text

    with time_machine.travel(timezone.now() + 3 * PERIOD + timedelta(seconds=1)):
        begin_due_run()

    assert "reconciliation_stuck" in caplog.text


def test_hundred_runs_are_kept(sandbox, monkeypatch):
    monkeypatch.setattr(reconcile, "_KEPT_RUNS", 2)

    runs = [reconcile_now() for _ in range(3)]

    assert list(ReconciliationRun.objects.all()) == [runs[2], runs[1]]


def test_task_begins_a_run_and_its_end_has_the_found_tenants_synced(
    sandbox, tenant, sent, monkeypatch, django_capture_on_commit_callbacks
):
    add_relay(tenant)
    hide_staleness(tenant)
    swept: list[int] = []
    monkeypatch.setattr(
        sweep_stale_tenants, "apply_async", lambda *args, **options: swept.append(1)
    )

    with django_capture_on_commit_callbacks(execute=True):
        reconcile_subscriptions()
    with django_capture_on_commit_callbacks(execute=True):
        run_reconciliation(sent[0])

    assert swept == [1]
    assert stale_tenants() == {tenant.pk}


def test_admin_shows_progress_and_reasons(sandbox, tenant, admin_client):
    add_relay(tenant)
    hide_staleness(tenant)
    run = reconcile_now()

    for kind, args in (("changelist", ()), ("change", (run.pk,))):
        page = admin_client.get(admin_url(ReconciliationRun, kind, *args))
        assert "0 subscriptions listed in 1 requests" in page.text
        assert "customer_missing: 1, missing: 1" in page.text
