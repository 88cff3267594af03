"""Many relays at once, in the threads of one worker process."""

import os
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from django.db import connection

from relays.models import Plan, Relay
from relays.services.provisioning.queue import mark_stale
from relays.services.provisioning.sync import SyncOutcome, sync_relay
from relays.tests.factories import RelayFactory
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db(transaction=True)

COUNT = int(os.environ.get("MANY_RELAYS", "60"))


def sync_in_thread(relay_id: UUID) -> SyncOutcome:
    try:
        return sync_relay(relay_id=relay_id)
    finally:
        connection.close()


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


def test_changes_during_syncs_of_one_tenant_do_not_deadlock(provisioning):
    tenant = TenantFactory()
    relays = [RelayFactory(tenant=tenant) for _ in range(8)]
    ids = [relay.pk for relay in relays]

    def change(relay_id: UUID) -> None:
        try:
            mark_stale(relay_id=relay_id)
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda pk: (sync_in_thread(pk), change(pk)), ids * 3))

    for relay_id in ids:
        sync_relay(relay_id=relay_id)
    assert provisioning.methods.count("POST") == 8
    assert set(provisioning.methods) == {"POST"}
