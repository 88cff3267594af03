"""Crashes of real processes: afterwards Stripe and the database agree."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import redis
import requests
import stripe
from django.conf import settings as django_settings

from billing.models import StripeWrite, SubscriptionSync
from billing.services.subscriptions.diff import desired_items
from billing.services.sync.queue import mark_stale
from billing.tasks import sweep_stale_tenants
from billing.tests.support import processes
from relays.models import Plan
from relays.services import lifecycle
from tenants.models import Activity
from tenants.tests.factories import TenantFactory

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.processes,
]

SUBSCRIPTIONS = "^/v1/subscriptions$"


@pytest.fixture(autouse=True)
def empty_broker():
    host = urlsplit(django_settings.REDIS_URL).hostname
    assert host in {None, "127.0.0.1", "::1", "localhost"}, "not ours to empty"
    with redis.from_url(django_settings.REDIS_URL) as broker:
        broker.flushall()
        yield broker


@pytest.fixture
def tenant(prices):
    return TenantFactory()


def add_relay(tenant, subdomain="nest"):
    lifecycle.create_relay(tenant_id=tenant.pk, subdomain=subdomain, plan_id="basic")


def assert_agreement(sandbox, tenant):
    """One subscription, with the items that the relays ask for."""
    tenant.refresh_from_db()
    listed = sandbox.client().v1.subscriptions.list({"status": "all"}).data
    assert [sub.id for sub in listed] == [tenant.stripe_subscription_id]
    items = {item.price.id: item.quantity for item in listed[0].items.data}
    assert items == desired_items(tenant.pk)
    customers = sandbox.client().v1.customers.list({}).data
    assert [customer.id for customer in customers] == [tenant.stripe_customer_id]


def recover(tmp_path):
    """Five minutes later another worker is up and the sweep runs, as beat lets it."""
    processes.let_minutes_pass(6)
    with processes.worker(tmp_path / "second.log"):
        sweep_stale_tenants.delay()
        processes.wait_for(processes.all_in_step, "agreement after the sweep")


def test_a_change_is_synced_by_a_worker(sandbox, tenant, tmp_path):
    with processes.worker(tmp_path / "worker.log"):
        add_relay(tenant)
        processes.wait_for(processes.all_in_step, "the first sync")

    assert_agreement(sandbox, tenant)


def test_killed_after_commit_and_before_the_message(sandbox, tenant, tmp_path):
    code = f"""
import os, signal
from django.db import transaction
from relays.services.lifecycle import create_relay
with transaction.atomic():
    transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
    create_relay(tenant_id="{tenant.pk}", subdomain="nest", plan_id="basic")
"""
    done = processes.run(code)
    done.communicate(timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert SubscriptionSync.objects.get(pk=tenant.pk).is_stale
    assert tenant.relays.count() == 1

    recover(tmp_path)

    assert_agreement(sandbox, tenant)


@pytest.mark.parametrize("path", ["^/v1/customers$", SUBSCRIPTIONS])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_during_a_call(sandbox, tenant, tmp_path, path, when):
    """`after`: Stripe has created it, and we have not stored its id."""
    kind = "customer.create" if "customers" in path else "subscription.create"
    sandbox.fault("delay", path=path, when=when, seconds=60, times=1)
    asked = StripeWrite.objects.filter(kind=kind, tried_at__isnull=False)
    with processes.worker(tmp_path / "first.log") as worker:
        add_relay(tenant)
        processes.wait_for(asked.exists, "the call that is under way")
        if when == "after":
            processes.wait_for(lambda: created(sandbox, path), "Stripe's work")
        processes.kill(worker)
    assert SubscriptionSync.objects.get(pk=tenant.pk).is_stale
    sandbox.clear_faults()

    recover(tmp_path)

    assert_agreement(sandbox, tenant)
    assert not StripeWrite.objects.pending().exists()


def created(sandbox, path):
    client = sandbox.client().v1
    listed = client.customers if "customers" in path else client.subscriptions
    return listed.list({}).data


def test_the_broker_loses_everything(sandbox, tenant, tmp_path, empty_broker):
    add_relay(tenant)
    assert empty_broker.dbsize()
    empty_broker.flushall()

    recover(tmp_path)

    assert_agreement(sandbox, tenant)


def test_twenty_syncs_at_once_from_four_processes(sandbox, tenant, tmp_path):
    for n in range(3):
        add_relay(tenant, f"nest-{n}")
    code = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from django.db import connection
from billing.services.sync.queue import mark_stale
from billing.services.subscriptions.sync import sync_tenant
def work(_):
    try:
        mark_stale(tenant_id="{tenant.pk}")
        return sync_tenant(tenant_id="{tenant.pk}").name
    finally:
        connection.close()
print("ready", flush=True); sys.stdin.readline()
with ThreadPoolExecutor(5) as pool:
    print(*pool.map(work, range(5)))
"""
    started = [processes.run(code) for _ in range(4)]
    for process in started:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    outcomes = " ".join(process.communicate(timeout=60)[0] for process in started)

    assert len(outcomes.split()) == 20
    assert set(outcomes.split()) <= {"IN_SYNC", "STALE", "NOT_DUE"}
    recover(tmp_path)
    assert_agreement(sandbox, tenant)
    assert desired_items(tenant.pk) == {Plan.objects.get(pk="basic").stripe_price_id: 3}


def test_fifty_changes_in_a_burst_cost_at_most_two_syncs(sandbox, tenant, tmp_path):
    with processes.worker(tmp_path / "worker.log"):
        for n in range(50):
            add_relay(tenant, f"nest-{n}")
        processes.wait_for(processes.all_in_step, "the last sync")

    syncs = sandbox.requests("GET", "/v1/subscriptions")
    assert 1 <= len(syncs) <= 2
    assert_agreement(sandbox, tenant)


def test_an_event_delivered_ten_times_at_once_has_its_effect_once(
    sandbox, tenant, tmp_path, live_server
):
    add_relay(tenant)
    with processes.worker(tmp_path / "worker.log"):
        processes.wait_for(processes.all_in_step, "the first sync")
        tenant.refresh_from_db()
        sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)
        (event,) = (
            sandbox.client()
            .v1.events.list({"type": "customer.subscription.deleted"})
            .data
        )
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: deliver(live_server, event), range(10)))
        processes.wait_for(
            lambda: tenant.stripe_events.filter(status="processed").exists(),
            "the event's effect",
        )
        processes.wait_for(processes.all_in_step, "the sync that follows")

    assert answers == [200] * 10
    assert tenant.stripe_events.count() == 1
    assert Activity.objects.filter(type="deactivate_relay").count() == 1


def deliver(live_server, event):
    body = json.dumps(
        {
            "id": event.id,
            "type": event.type,
            "created": event.created,
            "livemode": False,
            "data": {
                "object": {
                    "id": event.data.object.id,
                    "object": "subscription",
                    "customer": event.data.object.customer,
                }
            },
        }
    )
    signature = stripe.WebhookSignature.generate_signature_header(
        body, django_settings.STRIPE_WEBHOOK_SECRETS[0], timestamp=int(time.time())
    )
    headers = {"Stripe-Signature": signature, "Content-Type": "application/json"}
    url = f"{live_server.url}/stripe/webhook"
    return requests.post(url, body, headers=headers, timeout=30).status_code


def test_a_stale_mark_survives_a_worker_that_dies_idle(sandbox, tenant, tmp_path):
    with processes.worker(tmp_path / "first.log"):
        pass
    mark_stale(tenant_id=tenant.pk)

    recover(tmp_path)

    assert processes.all_in_step()
