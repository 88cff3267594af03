from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.models import SubscriptionSync
from billing.services.sync.queue import mark_all_stale, mark_stale
from billing.tasks import sweep_stale_tenants, sync_subscription
from caravel.core.db.leases import DURATION, Lease
from caravel.core.exceptions import Conflict, LeaseLost
from relays.models import Plan
from relays.services import lifecycle
from relays.tests.factories import RelayFactory
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]


@pytest.fixture
def enqueued(monkeypatch):
    """The tenants whose sync was enqueued, in order, and the delays of their tasks."""
    ids: list[str] = []
    delays: list[int] = []

    def send(args=(), kwargs=None, *, countdown=0):
        ids.append(args[0])
        delays.append(countdown)

    monkeypatch.setattr(sync_subscription, "apply_async", send)
    return ids, delays


@pytest.fixture
def enqueued_ids(enqueued):
    return enqueued[0]


@pytest.fixture
def on_commit(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


def sync_of(tenant):
    return SubscriptionSync.objects.get(pk=tenant.pk)


def acquire(tenant):
    lease = Lease.acquire(SubscriptionSync, tenant.pk)
    assert lease
    return lease


def test_each_billed_change_enqueues_one_sync(enqueued_ids, on_commit):
    relay = RelayFactory()
    changes = [
        lambda: lifecycle.change_plan(relay_id=relay.pk, plan_id="growth"),
        lambda: lifecycle.deactivate_relay(relay_id=relay.pk),
        lambda: lifecycle.activate_relay(relay_id=relay.pk),
        lambda: lifecycle.mark_relay_delinquent(relay_id=relay.pk),
        lambda: lifecycle.reactivate_relay(relay_id=relay.pk),
        lambda: relay.save(update_fields=["first_served_at", "served_at"]),
        lambda: relay.delete(),
    ]

    for change in changes:
        SubscriptionSync.objects.update(enqueued_at=None)
        enqueued_ids.clear()
        with on_commit():
            change()
        assert enqueued_ids == [relay.tenant_id]


def test_unbilled_change_enqueues_nothing(enqueued_ids, on_commit):
    relay = RelayFactory()
    version = sync_of(relay.tenant).version

    with on_commit():
        lifecycle.update_relay(relay_id=relay.pk, name="New name")
        relay.save(update_fields=["served_at", "synced", "sync_error"])

    assert enqueued_ids == []
    assert sync_of(relay.tenant).version == version


def test_rolled_back_change_enqueues_nothing(enqueued_ids, on_commit):
    relay = RelayFactory()
    before = sync_of(relay.tenant).version

    with on_commit(), pytest.raises(Conflict):
        lifecycle.activate_relay(relay_id=relay.pk)

    assert enqueued_ids == []
    assert sync_of(relay.tenant).version == before


def test_fifty_changes_enqueue_one_sync(enqueued_ids, on_commit):
    tenant = TenantFactory()

    with on_commit():
        for n in range(50):
            name = f"r{n}"
            lifecycle.create_relay(
                tenant_id=tenant.pk, subdomain=name, plan_id="basic", ignore_quotas=True
            )

    assert enqueued_ids == [tenant.pk]
    assert sync_of(tenant).version == 50


@pytest.fixture
def swept(monkeypatch):
    """The tenants whose sync a sweep has enqueued."""
    ids: list[str] = []
    monkeypatch.setattr(
        sync_subscription, "delay_many", lambda keys, **options: ids.extend(keys)
    )
    return ids


def test_sweep_enqueues_the_sync_when_the_broker_was_down(
    on_commit, monkeypatch, swept
):
    def fail(*args, **options):
        raise ConnectionError("broker down")

    monkeypatch.setattr(sync_subscription, "apply_async", fail)
    with on_commit():
        tenant = RelayFactory().tenant
    assert sync_of(tenant).is_stale

    sweep_stale_tenants()
    sweep_stale_tenants()

    assert swept == [tenant.pk]


def test_change_sends_the_message_that_could_not_be_sent_before(
    on_commit, monkeypatch, enqueued_ids
):
    def fail(*args, **options):
        raise ConnectionError("broker down")

    with monkeypatch.context() as patch:
        patch.setattr(sync_subscription, "apply_async", fail)
        with on_commit():
            tenant = RelayFactory().tenant

    with on_commit():
        mark_stale(tenant_id=tenant.pk)

    assert enqueued_ids == [tenant.pk]


def test_sweep_enqueues_the_sync_when_its_message_was_lost(
    on_commit, enqueued_ids, swept
):
    with on_commit():
        tenant = RelayFactory().tenant
    assert enqueued_ids == [tenant.pk]

    sweep_stale_tenants()
    assert swept == []

    with time_machine.travel(timezone.now() + timedelta(minutes=5, seconds=1)):
        sweep_stale_tenants()
        sweep_stale_tenants()
    assert swept == [tenant.pk]


def test_reconciliation_covers_customers_and_tenants_with_billable_relays():
    known = TenantFactory(stripe_customer_id="cus_1")
    paying = RelayFactory().tenant
    free = RelayFactory(plan=Plan.objects.get(pk="free")).tenant
    TenantFactory()
    SubscriptionSync.objects.update(synced_version=1, enqueued_at=None)

    assert mark_all_stale() == 2

    stale = SubscriptionSync.objects.stale()
    assert {row.pk for row in stale} == {known.pk, paying.pk}
    assert not sync_of(free).is_stale


def test_reconciliation_makes_a_failed_sync_due():
    tenant = RelayFactory().tenant
    acquire(tenant).release_failed(Conflict("no"))
    assert SubscriptionSync.objects.stale().claim(now=timezone.now()) == []

    mark_all_stale()

    assert SubscriptionSync.objects.stale().claim(now=timezone.now()) == [tenant.pk]


def test_only_one_worker_holds_the_lease():
    tenant = RelayFactory().tenant

    first, second = acquire(tenant), Lease.acquire(SubscriptionSync, tenant.pk)

    assert second is None
    assert first.release()
    mark_stale(tenant_id=tenant.pk)
    assert Lease.acquire(SubscriptionSync, tenant.pk)


def test_no_lease_for_a_tenant_in_sync():
    tenant = RelayFactory().tenant
    assert acquire(tenant).release()

    assert Lease.acquire(SubscriptionSync, tenant.pk) is None


def test_no_lease_before_the_retry_is_due():
    tenant = RelayFactory().tenant
    acquire(tenant).release_failed(Conflict("no"))

    SubscriptionSync.objects.update(enqueued_at=timezone.now())

    assert Lease.acquire(SubscriptionSync, tenant.pk) is None
    assert sync_of(tenant).enqueued_at is None
    with time_machine.travel(timezone.now() + timedelta(seconds=16)):
        assert Lease.acquire(SubscriptionSync, tenant.pk)


def test_change_is_due_on_a_host_with_a_slow_clock():
    tenant = RelayFactory().tenant

    with time_machine.travel(timezone.now() - timedelta(seconds=30)):
        assert Lease.acquire(SubscriptionSync, tenant.pk)


def test_lease_taken_over_on_a_host_with_a_fast_clock_is_lost():
    tenant = RelayFactory().tenant
    lease = acquire(tenant)
    with time_machine.travel(timezone.now() + timedelta(seconds=61)):
        assert Lease.acquire(SubscriptionSync, tenant.pk)  # on a host a minute ahead

    with pytest.raises(LeaseLost):
        lease.renew()


def test_change_during_a_failing_sync_is_retried_at_once(enqueued_ids, on_commit):
    tenant = RelayFactory().tenant
    SubscriptionSync.objects.update(failures=9)
    lease = acquire(tenant)
    with on_commit():
        mark_stale(tenant_id=tenant.pk)
    enqueued_ids.clear()

    with on_commit():
        lease.release_failed(Conflict("no"))

    assert enqueued_ids == [tenant.pk]
    assert sync_of(tenant).next_attempt_at <= timezone.now()


def test_forced_sync_is_enqueued_although_a_message_is_on_its_way(
    enqueued_ids, on_commit
):
    """The message may have been lost."""
    tenant = RelayFactory().tenant
    with on_commit():
        mark_stale(tenant_id=tenant.pk, force=True)

    assert enqueued_ids == [tenant.pk]


def test_abandoned_lease_expires():
    tenant = RelayFactory().tenant
    Lease.acquire(SubscriptionSync, tenant.pk)

    with time_machine.travel(timezone.now() + DURATION):
        assert Lease.acquire(SubscriptionSync, tenant.pk)


def test_lease_is_renewed_before_it_expires():
    tenant = RelayFactory().tenant
    lease = acquire(tenant)

    with time_machine.travel(timezone.now() + timedelta(seconds=40)):
        lease.renew()
    with time_machine.travel(timezone.now() + timedelta(seconds=80)):
        assert Lease.acquire(SubscriptionSync, tenant.pk) is None


def test_lost_lease_stops_calls_and_leaves_the_tenant_stale():
    tenant = RelayFactory().tenant
    lost = acquire(tenant)

    with time_machine.travel(timezone.now() + timedelta(seconds=61)):
        Lease.acquire(SubscriptionSync, tenant.pk)
        with pytest.raises(Conflict) as caught:
            lost.renew()
        assert caught.value.code == "lease-lost"
        assert lost.release() is False
        lost.release_failed(Conflict("ignored"))

    row = sync_of(tenant)
    assert row.is_stale
    assert row.lease_token
    assert row.failures == 0


def test_change_during_a_sync_leaves_the_tenant_stale_with_one_message(
    enqueued_ids, on_commit
):
    tenant = RelayFactory().tenant
    lease = acquire(tenant)

    with on_commit():
        mark_stale(tenant_id=tenant.pk)
    with on_commit():
        assert lease.release() is False

    row = sync_of(tenant)
    assert row.is_stale
    assert row.enqueued_at
    assert enqueued_ids == [tenant.pk]


def test_message_that_comes_during_a_sync_is_sent_again_without_a_delay(
    enqueued, on_commit, settings
):
    tenant = RelayFactory().tenant
    lease = acquire(tenant)
    with on_commit():
        mark_stale(tenant_id=tenant.pk)
    assert Lease.acquire(SubscriptionSync, tenant.pk) is None

    with on_commit():
        assert lease.release() is False

    ids, delays = enqueued
    assert ids == [tenant.pk, tenant.pk]
    assert delays == [settings.BILLING_SYNC_DELAY, 0]
    assert sync_of(tenant).enqueued_at


def test_message_that_comes_as_the_lease_is_released_takes_it(monkeypatch):
    tenant = RelayFactory().tenant
    lease = acquire(tenant)
    mark_stale(tenant_id=tenant.pk)
    take = Lease._take

    def take_late(late, rows):
        monkeypatch.setattr(Lease, "_take", take)
        taken = take(late, rows)
        lease.release()
        return taken

    monkeypatch.setattr(Lease, "_take", take_late)

    assert Lease.acquire(SubscriptionSync, tenant.pk)


def test_change_is_enqueued_after_a_message_that_found_the_lease_taken(
    enqueued_ids, on_commit
):
    """That message's task did nothing, so no message is on its way."""
    tenant = RelayFactory().tenant
    lease = acquire(tenant)
    SubscriptionSync.objects.update(enqueued_at=timezone.now())
    assert Lease.acquire(SubscriptionSync, tenant.pk) is None
    assert lease.release()

    with on_commit():
        mark_stale(tenant_id=tenant.pk)

    assert enqueued_ids == [tenant.pk]


def test_failure_is_recorded_and_the_delay_doubles():
    tenant = RelayFactory().tenant
    delays = []
    now = timezone.now()
    for _ in range(3):
        with time_machine.travel(now, tick=False):
            acquire(tenant).release_failed(Conflict("Stripe said no", code="some-code"))
        due = sync_of(tenant).next_attempt_at
        delays.append((due - now).total_seconds())
        now = due

    row = sync_of(tenant)
    assert [round(delay) for delay in delays] == [15, 30, 60]
    assert (row.failures, row.last_error_code) == (3, "some-code")
    assert "Stripe said no" in row.last_error
    assert row.is_stale
    assert row.lease_token is None


def test_success_clears_the_failure():
    tenant = RelayFactory().tenant
    acquire(tenant).release_failed(Conflict("no"))
    mark_stale(tenant_id=tenant.pk)

    acquire(tenant).release()

    row = sync_of(tenant)
    assert (row.failures, row.last_error, row.last_error_code) == (0, "", "")
    assert row.stale_since is None
