"""Crashes of real processes: the database, zooid and Stripe agree after recovery."""

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
from django.utils import timezone

from billing.models import StripeAccount, StripeWrite, SubscriptionSync
from billing.services.subscriptions.diff import desired_items
from billing.services.sync.queue import mark_stale
from billing.tasks import sweep_stale_tenants
from billing.tests.support import processes
from caravel.tests.support.waiting import read_line
from relays.models import Plan, Relay, RelaySync
from relays.services import lifecycle
from relays.tasks import sweep_relay_syncs
from tenants.models import Activity
from tenants.tests.factories import TenantFactory

pytestmark = [
    pytest.mark.django_db(transaction=True, serialized_rollback=True),
    pytest.mark.processes,
    pytest.mark.usefixtures("zooid"),
]

SUBSCRIPTIONS = "^/v1/subscriptions$"


@pytest.fixture(autouse=True)
def empty_broker():
    host = urlsplit(django_settings.REDIS_URL).hostname
    assert host in {None, "127.0.0.1", "::1", "localhost"}, "not a local broker"
    with redis.from_url(django_settings.REDIS_URL) as broker:
        broker.flushall()
        yield broker


@pytest.fixture(autouse=True)
def _served_only(settings):
    """Bill relays as the processes do: once zooid serves them."""
    settings.BILLING_SERVED_RELAYS_ONLY = True


@pytest.fixture
def tenant(prices):
    return TenantFactory()


def add_relay(tenant, subdomain="nest"):
    return lifecycle.create_relay(
        tenant_id=tenant.pk, subdomain=subdomain, plan_id="basic", ignore_quotas=True
    )


def assert_agreement(sandbox, tenant):
    """Assert that Stripe has one subscription, with the items for the relays.

    All relays of the tenant were served.
    """
    active = Relay.objects.suspendable().filter(tenant=tenant)
    assert sum(desired_items(tenant.pk).values()) == active.count()
    tenant.refresh_from_db()
    listed = sandbox.client().v1.subscriptions.list({"status": "all"}).data
    assert [sub.id for sub in listed] == [tenant.stripe_subscription_id]
    items = {item.price.id: item.quantity for item in listed[0].items.data}
    assert items == desired_items(tenant.pk)
    customers = sandbox.client().v1.customers.list({}).data
    assert [customer.id for customer in customers] == [tenant.stripe_customer_id]


def recover(tmp_path):
    """Six minutes later, start another worker and run the sweeps as beat does."""
    processes.age_timestamps(6)
    with processes.worker(tmp_path / "second.log"):
        sweep_relay_syncs.delay()
        sweep_stale_tenants.delay()
        processes.wait_for(processes.all_synced, "agreement after the sweep")


def test_worker_syncs_a_new_relay(sandbox, tenant, tmp_path):
    with processes.worker(tmp_path / "worker.log"):
        add_relay(tenant)
        processes.wait_for(processes.all_synced, "the first sync")

    assert_agreement(sandbox, tenant)


def test_relay_is_billed_once_zooid_serves_it(sandbox, zooid, tenant, tmp_path):
    zooid.fault("error")
    failed = RelaySync.objects.filter(failures__gt=0)
    with processes.worker(tmp_path / "first.log"):
        relay = add_relay(tenant)
        processes.wait_for(failed.exists, "the failure")
        processes.wait_for(
            lambda: not SubscriptionSync.objects.stale().exists(), "the sync of nothing"
        )
    assert is_served(zooid, relay) is False
    assert sandbox.requests("POST", "/v1/subscriptions") == []
    zooid.clear_faults()

    recover(tmp_path)

    assert is_served(zooid, relay)
    assert_agreement(sandbox, tenant)


def test_relay_goes_dark_when_switched_off_and_returns(zooid, tenant, tmp_path):
    queues = "default,stripe,zooid,lightning"
    with processes.worker(tmp_path / "worker.log", queues=queues):
        relay = add_relay(tenant)
        processes.wait_for(processes.all_synced, "the first sync")
        assert is_served(zooid, relay)

        lifecycle.deactivate_relay(relay_id=relay.pk)
        processes.wait_for(processes.all_synced, "the end")
        assert not is_served(zooid, relay)

        # The first invoice is unpaid until the credit for its time is read.
        processes.wait_for(lambda: not must_pay_first(tenant), "the credit")
        lifecycle.activate_relay(relay_id=relay.pk)
        processes.wait_for(processes.all_synced, "the return")
        assert is_served(zooid, relay)


def must_pay_first(tenant) -> bool:
    tenant.refresh_from_db()
    return bool(tenant.must_pay_first)


def is_served(zooid, relay) -> bool:
    """Fetch the relay's NIP-11 document as a stranger does."""
    headers = {
        "Host": f"{relay.subdomain}.{django_settings.RELAY_DOMAIN}",
        "Accept": "application/nostr+json",
    }
    response = requests.get(zooid.url, headers=headers, timeout=60)
    assert response.status_code in {200, 404, 500}
    return response.status_code == 200


def test_sync_recovers_when_web_process_is_killed_between_commit_and_enqueue(
    sandbox, tenant, tmp_path
):
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
def test_sync_recovers_when_worker_is_killed_during_a_stripe_call(
    sandbox, tenant, tmp_path, path, when
):
    """With `after`, Stripe has created the object, but its id was not stored."""
    kind = "customer.create" if "customers" in path else "subscription.create"
    sandbox.fault("delay", path=path, when=when, seconds=60, times=1)
    sent_writes = StripeWrite.objects.filter(kind=kind, tried_at__isnull=False)
    with processes.worker(tmp_path / "first.log") as worker:
        add_relay(tenant)
        processes.wait_for(sent_writes.exists, "the pending call")
        if when == "after":
            processes.wait_for(
                lambda: list_objects(sandbox, path), "the object at Stripe"
            )
        processes.kill(worker)
    assert SubscriptionSync.objects.get(pk=tenant.pk).is_stale
    sandbox.clear_faults()

    recover(tmp_path)

    assert_agreement(sandbox, tenant)
    assert not StripeWrite.objects.pending().exists()


def list_objects(sandbox, path):
    client = sandbox.client().v1
    listed = client.customers if "customers" in path else client.subscriptions
    return listed.list({}).data


def test_sync_recovers_when_the_broker_loses_all_messages(
    sandbox, tenant, tmp_path, empty_broker
):
    add_relay(tenant)
    assert empty_broker.dbsize()
    empty_broker.flushall()

    recover(tmp_path)

    assert_agreement(sandbox, tenant)


def test_twenty_concurrent_syncs_create_one_subscription(sandbox, tenant, tmp_path):
    for n in range(3):
        add_relay(tenant, f"nest-{n}")
    tenant.relays.update(first_served_at=timezone.now())
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
        assert read_line(process) == "ready\n"
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


def test_fifty_changes_in_a_burst_need_few_syncs(sandbox, tenant, tmp_path):
    with processes.worker(tmp_path / "worker.log"):
        started_at = time.monotonic()
        for n in range(50):
            add_relay(tenant, f"nest-{n}")
        processes.wait_for(
            lambda: not RelaySync.objects.stale().exists(), "the last first proof"
        )
        processes.wait_for(processes.all_synced, "the last sync")
        # All of the time in which syncs are counted.
        seconds = time.monotonic() - started_at

    syncs = sandbox.requests("GET", "/v1/subscriptions")
    # The burst takes longer than the delay that collects changes.
    assert 1 <= len(syncs) <= 2 + seconds // django_settings.BILLING_SYNC_DELAY
    assert_agreement(sandbox, tenant)


def test_event_delivered_ten_times_concurrently_takes_effect_once(
    sandbox, tenant, tmp_path, live_server
):
    add_relay(tenant)
    with processes.worker(tmp_path / "worker.log"):
        processes.wait_for(processes.all_synced, "the first sync")
        tenant.refresh_from_db()
        sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)
        (event,) = (
            sandbox.client()
            .v1.events.list({"type": "customer.subscription.deleted"})
            .data
        )
        with ThreadPoolExecutor(10) as pool:
            statuses = list(pool.map(lambda _: deliver(live_server, event), range(10)))
        processes.wait_for(
            lambda: tenant.stripe_events.filter(status="processed").exists(),
            "the event's effect",
        )
        processes.wait_for(processes.all_synced, "the sync that follows")

    assert statuses == [200] * 10
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
    return requests.post(url, body, headers=headers, timeout=60).status_code


def test_tenant_marked_stale_after_a_worker_was_killed_is_synced(
    sandbox, tenant, tmp_path
):
    with processes.worker(tmp_path / "first.log"):
        pass
    mark_stale(tenant_id=tenant.pk)

    recover(tmp_path)

    assert processes.all_synced()


STARTS = {
    "web": "import caravel.wsgi",
    "worker": "from celery.__main__ import main; import sys; "
    "sys.argv = ['celery', '-A', 'caravel', '-q', 'worker', '-Q', 'default']; main()",
    "network": "from celery.__main__ import main; import sys; "
    "sys.argv = ['celery', '-A', 'caravel', '-q', 'worker', '-P', 'threads']; main()",
    "beat": "from celery.__main__ import main; import sys; "
    "sys.argv = ['celery', '-A', 'caravel', '-q', 'beat']; main()",
    "migrate": "from django.core.management import execute_from_command_line as run; "
    "run(['manage.py', 'migrate'])",
}


@pytest.mark.parametrize("process", STARTS)
def test_process_with_the_key_of_another_account_does_not_start(
    sandbox, process, empty_broker
):
    StripeAccount.objects.create(account_id="acct_first", livemode=False)

    mail = {"SUPPORT_EMAIL": "a@example.com", "EMAIL_URL": "smtp://127.0.0.1:1"}
    started = processes.run(STARTS[process], **mail)
    output, _ = started.communicate(timeout=60)

    assert started.returncode not in (0, -signal.SIGKILL)
    assert "The database belongs to the Stripe account acct_first" in output
    assert [request["path"] for request in sandbox.requests()] == ["/v1/account"]
