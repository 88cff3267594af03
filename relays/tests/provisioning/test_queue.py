from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction
from django.utils import timezone

from caravel.core.exceptions import Conflict
from relays.models import Plan, Relay, RelaySync
from relays.services import lifecycle
from relays.services.locks import lock_relay
from relays.services.provisioning.queue import mark_stale
from relays.tasks import sweep_relay_syncs, sync_relay
from relays.tests.factories import RelayFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]


@pytest.fixture
def enqueued_ids(monkeypatch):
    """The relays whose sync was enqueued, in order."""
    sent: list[str] = []
    monkeypatch.setattr(
        sync_relay,
        "apply_async",
        lambda args=(), kwargs=None, **options: sent.append(args[0]),
    )
    return sent


@pytest.fixture
def on_commit(django_capture_on_commit_callbacks):
    return lambda: django_capture_on_commit_callbacks(execute=True)


@pytest.fixture
def relay():
    """A relay in sync with zooid."""
    relay = RelayFactory()
    set_synced()
    return relay


def set_synced():
    Relay.objects.update(synced=True)
    RelaySync.objects.update(version=1, synced_version=1, enqueued_at=None)


def sync_of(relay):
    return RelaySync.objects.get(pk=relay.pk)


@pytest.mark.parametrize(
    "change",
    [
        lambda relay: lifecycle.update_relay(relay_id=relay.pk, name="New name"),
        lambda relay: lifecycle.change_plan(relay_id=relay.pk, plan_id="growth"),
        lambda relay: lifecycle.deactivate_relay(relay_id=relay.pk),
        lambda relay: lifecycle.mark_relay_delinquent(relay_id=relay.pk),
        lambda relay: lifecycle.delete_relay(relay_id=relay.pk),
        lambda relay: relay.save(),
        lambda relay: mark_stale(relay_id=relay.pk),
    ],
    ids=["fields", "plan", "off", "suspension", "deletion", "save", "other cause"],
)
def test_change_enqueues_one_sync(enqueued_ids, on_commit, relay, change):
    with on_commit():
        change(relay)

    assert enqueued_ids == [str(relay.pk)]
    assert sync_of(relay).is_stale


def test_other_cause_of_a_sync_shows_the_relay_as_not_synced(relay):
    mark_stale(relay_id=relay.pk)

    relay.refresh_from_db()
    assert not relay.synced


def test_new_relay_is_enqueued(enqueued_ids, on_commit):
    with on_commit():
        relay = RelayFactory()

    assert enqueued_ids == [str(relay.pk)]


def test_what_was_only_observed_enqueues_nothing(enqueued_ids, on_commit, relay):
    relay.served_at = relay.first_served_at = timezone.now()

    with on_commit():
        relay.save(update_fields=["served_at", "first_served_at", "synced"])

    assert enqueued_ids == []
    assert not sync_of(relay).is_stale


def test_rolled_back_change_enqueues_nothing(enqueued_ids, on_commit, relay):
    with on_commit(), pytest.raises(Conflict):
        lifecycle.activate_relay(relay_id=relay.pk)

    assert enqueued_ids == []
    assert not sync_of(relay).is_stale


def test_fifty_changes_enqueue_one_sync(enqueued_ids, on_commit, relay):
    with on_commit():
        for n in range(50):
            lifecycle.update_relay(relay_id=relay.pk, name=f"Name {n}")

    assert enqueued_ids == [str(relay.pk)]
    assert sync_of(relay).version == 51


def test_features_of_a_plan_enqueue_its_relays(enqueued_ids, on_commit):
    relays = [RelayFactory(), RelayFactory()]
    RelayFactory(plan_id="growth")
    lifecycle.delete_relay(relay_id=RelayFactory().pk)
    set_synced()
    plan = Plan.objects.get(pk="basic")
    plan.livekit = not plan.livekit

    with on_commit():
        plan.save()

    assert sorted(enqueued_ids) == sorted(str(relay.pk) for relay in relays)


def test_price_of_a_plan_enqueues_nothing(enqueued_ids, on_commit, relay):
    with on_commit():
        relay.plan.save(update_fields=["price_problem"])

    assert enqueued_ids == []


def test_sweep_enqueues_the_sync_when_the_broker_was_down(on_commit, monkeypatch):
    def fail(*args, **options):
        raise ConnectionError("broker down")

    monkeypatch.setattr(sync_relay, "apply_async", fail)
    with on_commit():
        relay = RelayFactory()
    sent: list[str] = []
    monkeypatch.setattr(sync_relay, "delay_many", sent.extend)

    sweep_relay_syncs()
    sweep_relay_syncs()

    assert sent == [str(relay.pk)]


def test_retries_double_to_a_quarter_of_an_hour_and_are_hourly_in_the_end():
    delays = [RelaySync().get_backoff(failures) for failures in range(1, 9)]

    minutes = [delay.total_seconds() / 60 for delay in delays]
    assert minutes == [0.5, 1, 2, 4, 8, 15, 60, 60]


@pytest.mark.django_db(transaction=True)
def test_second_change_does_not_wait_for_a_lock_on_the_relay():
    """Its transaction updates the sync twice, so PostgreSQL checks the foreign key.

    Whoever holds the relay may be waiting for the sync: they would wait for each other.
    """
    relay = RelayFactory()
    RelaySync.objects.update(enqueued_at=None)

    def mark() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '5s'")
            mark_stale(relay_id=relay.pk)
        finally:
            connection.close()

    with transaction.atomic(), ThreadPoolExecutor(1) as threads:
        lock_relay(relay.pk)
        threads.submit(mark).result()

    assert sync_of(relay).version == 2
