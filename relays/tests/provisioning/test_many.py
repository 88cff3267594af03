"""Many relays at once, in the threads of one worker process."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from relays.models import Plan, Relay, RelaySync
from relays.services import lifecycle
from relays.services.provisioning.probes import probe_relays
from relays.services.provisioning.queue import mark_stale
from relays.services.provisioning.sync import SyncOutcome, sync_relay
from relays.tests.factories import RelayFactory
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db(transaction=True)

T = TypeVar("T")
COUNT = int(os.environ.get("MANY_RELAYS", "60"))
FEW = COUNT // 3


def in_thread(work: Callable[..., T], **arguments: Any) -> T:
    try:
        return work(**arguments)
    finally:
        connection.close()


def sync_in_thread(relay_id: UUID) -> SyncOutcome:
    return in_thread(sync_relay, relay_id=relay_id)


def test_relays_at_once_are_each_created_once(provisioning):
    plan, tenant = Plan.objects.get(pk="basic"), TenantFactory()
    relays = [RelayFactory(plan=plan, tenant=tenant) for _ in range(COUNT)]
    ids = [relay.pk for relay in relays]
    provisioning.zooid.latency = 0.05

    # Messages may come twice, and two workers may take them at once.
    with ThreadPoolExecutor(16) as threads:
        outcomes = list(threads.map(sync_in_thread, [*ids, *ids]))

    assert outcomes.count(SyncOutcome.IN_SYNC) == COUNT
    assert {*outcomes} == {SyncOutcome.IN_SYNC, SyncOutcome.NOT_DUE}
    assert provisioning.methods == ["POST"] * COUNT
    assert Relay.objects.filter(synced=True).count() == COUNT


@pytest.mark.parametrize("is_away", [False, True], ids=["there", "away for a while"])
def test_relays_suspended_and_back_while_they_are_probed(provisioning, is_away):
    tenant = TenantFactory()
    ids = [RelayFactory(tenant=tenant).pk for _ in range(FEW)]
    zooid = provisioning.zooid

    def switch_and_probe(service):
        with ThreadPoolExecutor(16) as threads:
            probing = threads.submit(in_thread, probe_relays, relay_ids=ids)
            for relay_id in ids:
                service(relay_id=relay_id)
            outcomes = [*threads.map(sync_in_thread, ids)]
            probing.result()
        return outcomes

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(sync_in_thread, ids))
    zooid.latency = 0.02
    if is_away:
        zooid.fault("error", place="everywhere", status=502)
        outcomes = switch_and_probe(lifecycle.mark_relay_delinquent)
        assert {*outcomes} == {SyncOutcome.FAILED}
        zooid.clear_faults()
        RelaySync.objects.update(next_attempt_at=timezone.now())
        list(map(sync_in_thread, ids))
    else:
        switch_and_probe(lifecycle.mark_relay_delinquent)
    assert [zooid.is_served(relay_id) for relay_id in ids] == [False] * FEW

    switch_and_probe(lifecycle.reactivate_relay)

    assert [zooid.is_served(relay_id) for relay_id in ids] == [True] * FEW
    assert [zooid.reloads(relay_id) for relay_id in ids] == [3] * FEW
    assert Relay.objects.filter(synced=True).count() == FEW
    assert Relay.objects.filter(dark_at__lt=F("served_at")).count() == FEW


def test_changes_during_syncs_of_one_tenant_do_not_deadlock(provisioning):
    tenant = TenantFactory()
    relays = [RelayFactory(tenant=tenant) for _ in range(8)]
    ids = [relay.pk for relay in relays]

    def sync_and_change(relay_id: UUID) -> None:
        sync_in_thread(relay_id)
        try:
            mark_stale(relay_id=relay_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(sync_and_change, ids * 3))

    for relay_id in ids:
        sync_relay(relay_id=relay_id)
    assert provisioning.methods.count("POST") == 8
    assert set(provisioning.methods) == {"POST"}
