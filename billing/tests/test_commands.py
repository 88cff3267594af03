"""Management commands of billing."""

from io import StringIO
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command

from billing.management.commands import reconcile
from billing.models import ReconciliationRun, SubscriptionSync
from billing.services.reconciliation.reconcile import begin_run
from billing.tasks import sweep_stale_tenants
from caravel.core.db.leases import Lease
from caravel.nostr import npub, pubkey_of
from relays.models import Plan
from relays.tests.factories import RelayFactory

pytestmark = pytest.mark.django_db


def call(name, *args):
    out = StringIO()
    call_command(name, *args, stdout=out)
    return out.getvalue()


def test_stripe_setup_creates_prices_once(sandbox):
    first, second = call("stripe_setup"), call("stripe_setup")

    assert first.count("created price_") == 2
    assert second.count("found price_") == 2
    prices = sandbox.client().v1.prices.list({}).data
    assert sorted(
        (p.unit_amount, p.currency, p.recurring.interval) for p in prices
    ) == [
        (500, "usd", "month"),
        (2500, "usd", "month"),
    ]
    assert {p.id for p in prices} == {
        plan.stripe_price_id for plan in Plan.objects.paid()
    }


def test_stripe_setup_creates_portal_configurations_once(sandbox):
    first, second = call("stripe_setup"), call("stripe_setup")

    assert first.count("created bpc_") == 2
    assert second.count("found bpc_") == 2
    api = sandbox.client().v1.billing_portal
    assert len(api.configurations.list({}).data) == 2


def test_stripe_setup_creates_a_new_price_for_a_changed_amount(sandbox):
    call("stripe_setup")
    before = Plan.objects.get(pk="basic").stripe_price_id
    Plan.objects.filter(pk="basic").update(amount_cents=700)

    call("stripe_setup")

    after = Plan.objects.get(pk="basic").stripe_price_id
    assert after != before
    assert sandbox.client().v1.prices.retrieve(after).unit_amount == 700


def test_stripe_setup_creates_the_webhook_endpoint_once(sandbox):
    url = "https://caravel.example/stripe/webhook"

    first = call("stripe_setup", "--webhook-url", url)
    second = call("stripe_setup", "--webhook-url", url)

    assert "STRIPE_WEBHOOK_SECRET=whsec_" in first
    assert "whsec_" not in second
    (endpoint,) = sandbox.client().v1.webhook_endpoints.list({}).data
    assert set(endpoint.enabled_events) >= {
        "customer.subscription.deleted",
        "customer.subscription.updated",
    }
    assert endpoint.api_version == "2026-10-28.endive"


def test_stripe_setup_reports_an_error_from_stripe(sandbox):
    sandbox.fault(
        "status",
        path="/v1/prices",
        status=401,
        error={"message": "Invalid API Key", "type": "invalid_request_error"},
    )

    with pytest.raises(CommandError, match="Invalid API Key"):
        call("stripe_setup")


def test_sync_tenant_syncs_immediately(prices):
    relay = RelayFactory()

    assert call("sync_tenant", npub(relay.tenant_id)) == "in sync\n"

    relay.tenant.refresh_from_db()
    assert relay.tenant.stripe_subscription_id


def test_sync_tenant_reports_the_error_code(sandbox):
    relay = RelayFactory()

    with pytest.raises(CommandError, match="plan-price-missing"):
        call("sync_tenant", relay.tenant_id)


@pytest.mark.parametrize(
    ("pubkey", "message"),
    [("nonsense", "pubkey-invalid"), (pubkey_of("1" * 64), "no such tenant")],
)
def test_sync_tenant_of_an_unknown_tenant_fails(pubkey, message):
    with pytest.raises(CommandError, match=message):
        call("sync_tenant", pubkey)


@pytest.fixture
def swept(monkeypatch) -> list[int]:
    """Sweeps of stale tenants that were enqueued."""
    sent: list[int] = []
    monkeypatch.setattr(
        sweep_stale_tenants, "apply_async", lambda *args, **options: sent.append(1)
    )
    return sent


def test_reconcile_shows_progress_and_the_tenants_that_differ(
    prices, swept, django_capture_on_commit_callbacks
):
    RelayFactory()
    SubscriptionSync.objects.update(synced_version=1)

    with django_capture_on_commit_callbacks(execute=True):
        assert call("reconcile").splitlines() == [
            "0 subscriptions listed in 1 requests; 1 tenants to sync",
            "  customer_missing: 1",
            "  missing: 1",
        ]

    assert SubscriptionSync.objects.stale().count() == 1
    assert swept == [1]


def test_reconcile_prints_the_error_that_a_worker_will_retry(sandbox):
    sandbox.fault("status", method="GET", path="/v1/subscriptions", status=403)

    with pytest.raises(CommandError, match="a worker will try again"):
        call("reconcile")


def test_reconcile_waits_for_the_worker_that_is_at_it(swept, monkeypatch):
    lease = Lease.acquire(ReconciliationRun, begin_run().pk)
    assert lease
    monkeypatch.setattr(
        reconcile, "time", SimpleNamespace(sleep=lambda seconds: lease.release())
    )
    out, err = StringIO(), StringIO()

    call_command("reconcile", stdout=out, stderr=err)

    assert err.getvalue() == ""
    assert len(out.getvalue().splitlines()) == 2


def test_reconcile_that_is_interrupted_says_who_goes_on(swept, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    Lease.acquire(ReconciliationRun, begin_run().pk)
    monkeypatch.setattr(reconcile, "time", SimpleNamespace(sleep=interrupt))

    with pytest.raises(CommandError, match="a worker will go on"):
        call("reconcile")


def test_reconcile_of_every_tenant_marks_all_stale(
    swept, django_capture_on_commit_callbacks
):
    RelayFactory()
    SubscriptionSync.objects.update(synced_version=1)

    with django_capture_on_commit_callbacks(execute=True):
        assert call("reconcile", "--every-tenant") == "1 tenants enqueued\n"

    assert SubscriptionSync.objects.stale().count() == 1
    assert swept == [1]
