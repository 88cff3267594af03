"""`sync_tenant` against the sandbox Stripe over HTTP."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.clients.stripe.subscriptions import Subscriptions
from billing.models import StripeWrite, SubscriptionSync
from billing.services.subscriptions.sync import SyncOutcome, sync_tenant
from billing.services.sync.queue import mark_stale
from billing.tests.support.subscriptions import (
    SUBSCRIPTIONS_PATH,
    add_relay,
    all_subscriptions,
    collect_invoices,
    create_subscription_at_stripe,
    live_items,
    pay_all_invoices,
    post_collect_and_sync,
    rewrite_subscription,
    sync,
    sync_until_in_sync,
)
from relays.models import Plan, Relay
from relays.services import lifecycle
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory, confirm_address

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(prices):
    return TenantFactory(display_name="Alice")


def write_requests(sandbox):
    return [
        f"{r['method']} {r['path']}"
        for r in sandbox.requests()
        if r["method"] != "GET" and not r["path"].startswith("/v1/prices")
    ]


# --- customer and items


def test_first_paid_relay_creates_customer_and_subscription(sandbox, tenant, prices):
    add_relay(tenant)

    sync(tenant)

    assert live_items(sandbox, tenant) == {prices["basic"]: 1}
    customer = sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id)
    assert customer.name == "Alice"
    assert customer.metadata.to_dict() == {"tenant_pubkey": tenant.pk}
    assert customer.email == f"{tenant.npub}@tenants.caravel.example"


def test_subscription_is_never_charged_by_stripe(sandbox, tenant):
    add_relay(tenant)

    sync(tenant)

    (subscription,) = all_subscriptions(sandbox)
    assert subscription.collection_method == "send_invoice"
    assert subscription.days_until_due == 7
    assert subscription.billing_mode.type == "flexible"
    assert subscription.metadata["tenant_pubkey"] == tenant.pk


def test_customer_has_the_tenants_own_email(sandbox, prices):
    tenant = TenantFactory(email="alice@example.com")
    confirm_address(tenant)
    add_relay(tenant)

    sync(tenant)

    customer = sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id)
    assert customer.email == "alice@example.com"
    assert customer.name.startswith("npub1")


def test_quantities_follow_the_relays(sandbox, tenant, prices):
    first, _ = add_relay(tenant), add_relay(tenant)
    sync(tenant)
    assert live_items(sandbox, tenant) == {prices["basic"]: 2}

    lifecycle.change_plan(relay_id=first.pk, plan_id="growth")
    sync(tenant)
    assert live_items(sandbox, tenant) == {prices["basic"]: 1, prices["growth"]: 1}

    lifecycle.deactivate_relay(relay_id=first.pk)
    add_relay(tenant)
    sync(tenant)
    assert live_items(sandbox, tenant) == {prices["basic"]: 2}
    assert len(all_subscriptions(sandbox)) == 1


def test_several_changes_become_one_write(sandbox, tenant):
    relay = add_relay(tenant)
    sync(tenant)
    before = len(write_requests(sandbox))

    lifecycle.change_plan(relay_id=relay.pk, plan_id="growth")
    add_relay(tenant)
    add_relay(tenant)
    sync(tenant)

    assert len(write_requests(sandbox)) == before + 1


def test_no_write_when_synced_again(sandbox, tenant):
    add_relay(tenant)
    sync(tenant)
    before = write_requests(sandbox)

    sync(tenant)

    assert write_requests(sandbox) == before


def test_no_request_for_a_tenant_without_paid_relays(sandbox, tenant):
    add_relay(tenant, plan="free")
    add_relay(tenant, status=Relay.Status.INACTIVE)
    before = len(sandbox.requests())

    sync(tenant)

    assert len(sandbox.requests()) == before
    assert tenant.stripe_customer_id is None


def test_unknown_tenant_is_not_due(db):
    assert sync_tenant(tenant_id="ab" * 32) == SyncOutcome.NOT_DUE


# --- the end of a subscription


def test_unused_time_is_credited_when_nothing_is_owed(sandbox, tenant):
    relay = add_relay(tenant)
    sync(tenant)
    pay_all_invoices(sandbox)

    lifecycle.deactivate_relay(relay_id=relay.pk)
    sync(tenant)

    (ended,) = all_subscriptions(sandbox)
    assert ended.status == "canceled"
    assert tenant.stripe_subscription_id is None
    customer = sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id)
    assert -500 <= customer.balance <= -499
    drafts = sandbox.client().v1.invoices.list({"status": "draft"}).data
    assert drafts == []


def test_open_invoice_is_reduced_when_something_is_owed(sandbox, tenant):
    relay = add_relay(tenant)
    sync(tenant)

    lifecycle.deactivate_relay(relay_id=relay.pk)
    sync(tenant)

    (ended,) = all_subscriptions(sandbox)
    assert ended.status == "canceled"
    customer = sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id)
    assert customer.balance == 0
    (invoice,) = sandbox.client().v1.invoices.list({}).data
    assert (invoice.total, invoice.amount_remaining) == (500, 0)


def test_second_subscription_is_created_when_relay_is_off_and_on_again(
    sandbox, tenant, prices
):
    relay = add_relay(tenant)
    sync(tenant)
    pay_all_invoices(sandbox)
    lifecycle.deactivate_relay(relay_id=relay.pk)
    sync(tenant)

    lifecycle.activate_relay(relay_id=relay.pk)
    sync(tenant)

    assert live_items(sandbox, tenant) == {prices["basic"]: 1}
    assert len(all_subscriptions(sandbox)) == 2


def test_interrupted_cancellation_is_credited_before_a_new_subscription(
    sandbox, tenant
):
    relay = add_relay(tenant)
    sync(tenant)
    pay_all_invoices(sandbox)
    lifecycle.deactivate_relay(relay_id=relay.pk)
    sandbox.fault("status", path="/finalize", status=500, times=3)
    sync(tenant, SyncOutcome.FAILED)
    assert tenant.stripe_subscription_id

    lifecycle.activate_relay(relay_id=relay.pk)
    sync(tenant)

    client = sandbox.client()
    customer = client.v1.customers.retrieve(tenant.stripe_customer_id)
    assert customer.balance < 0
    assert not StripeWrite.objects.pending().exists()
    assert len(all_subscriptions(sandbox)) == 2


# --- changes made at Stripe


@pytest.fixture
def customer(sandbox, tenant):
    customer = sandbox.client().v1.customers.create(
        {"email": "alice@example.com", "metadata": {"tenant_pubkey": tenant.pk}}
    )
    Tenant.objects.filter(pk=tenant.pk).update(stripe_customer_id=customer.id)
    tenant.refresh_from_db()
    return customer.id


def test_unknown_subscription_is_adopted_and_corrected(
    sandbox, tenant, customer, prices
):
    existing = create_subscription_at_stripe(sandbox, tenant, prices["growth"])
    add_relay(tenant)
    add_relay(tenant)

    sync(tenant)

    assert tenant.stripe_subscription_id == existing.id
    assert live_items(sandbox, tenant) == {prices["basic"]: 2}
    assert len(all_subscriptions(sandbox)) == 1


def test_duplicate_subscription_is_cancelled_and_logged(
    sandbox, tenant, prices, caplog
):
    add_relay(tenant)
    sync(tenant)
    create_subscription_at_stripe(sandbox, tenant, prices["basic"])

    sync(tenant)

    assert live_items(sandbox, tenant) == {prices["basic"]: 1}
    assert "surplus_subscription" in caplog.text


def test_subscription_of_another_service_is_not_cancelled(
    sandbox, tenant, customer, prices
):
    foreign = create_subscription_at_stripe(
        sandbox, tenant, prices["basic"], metadata={"x": "y"}
    )

    sync(tenant)

    assert all_subscriptions(sandbox)[0].id == foreign.id
    assert all_subscriptions(sandbox)[0].status == "active"


def test_adopted_automatic_collection_is_switched_to_send_invoice(
    sandbox, tenant, customer, prices
):
    client = sandbox.client()
    existing = create_subscription_at_stripe(sandbox, tenant, prices["basic"])
    (invoice,) = client.v1.invoices.list({"subscription": existing.id}).data
    assert invoice.auto_advance
    rewrite_subscription(sandbox, existing.id, collection_method="charge_automatically")
    add_relay(tenant)

    sync(tenant)

    (adopted,) = all_subscriptions(sandbox)
    assert (adopted.id, adopted.collection_method) == (existing.id, "send_invoice")
    assert adopted.days_until_due == 7
    assert not client.v1.invoices.retrieve(invoice.id).auto_advance


def test_subscription_cancelled_by_a_person_is_not_recreated(sandbox, tenant):
    relay, free = add_relay(tenant), add_relay(tenant, plan="free")
    sync(tenant)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)

    sync_until_in_sync(tenant)

    relay.refresh_from_db()
    free.refresh_from_db()
    assert (relay.status, free.status) == ("inactive", "active")
    assert tenant.stripe_subscription_id is None
    assert len(all_subscriptions(sandbox)) == 1


@pytest.mark.parametrize(
    ("reason", "owes", "exempt", "status", "subscriptions"),
    [
        ("payment_failed", True, False, "delinquent", 1),
        ("payment_failed", True, True, "active", 2),
        ("payment_failed", False, False, "active", 2),
        (None, False, False, "active", 2),
        (None, True, False, "delinquent", 1),
    ],
)
def test_relays_are_suspended_only_for_debt_after_stripe_ended_the_subscription(
    sandbox, tenant, reason, owes, exempt, status, subscriptions
):
    relay = add_relay(tenant)
    sync(tenant)
    if owes:
        collect_invoices(tenant)
        sandbox.advance(7 * 24 * 3600)
    Tenant.objects.filter(pk=tenant.pk).update(dunning_exempt=exempt)
    id = tenant.stripe_subscription_id
    ended = sandbox.client().v1.subscriptions.cancel(id)
    details = {**ended.cancellation_details.to_dict(), "reason": reason}
    rewrite_subscription(sandbox, id, cancellation_details=details)

    sync_until_in_sync(tenant)
    if not owes:
        post_collect_and_sync(tenant)

    relay.refresh_from_db()
    assert relay.status == status
    assert len(all_subscriptions(sandbox)) == subscriptions


def test_unpaid_subscription_is_cancelled_and_relays_suspended(sandbox, tenant):
    relay = add_relay(tenant)
    sync(tenant)
    collect_invoices(tenant)
    sandbox.advance(7 * 24 * 3600)
    rewrite_subscription(sandbox, tenant.stripe_subscription_id, status="unpaid")

    sync_until_in_sync(tenant)

    relay.refresh_from_db()
    assert relay.status == "delinquent"
    assert [s.status for s in all_subscriptions(sandbox)] == ["canceled"]


def test_deleted_customer_is_replaced(sandbox, tenant, prices):
    add_relay(tenant)
    sync(tenant)
    old = tenant.stripe_customer_id
    sandbox.client().v1.customers.delete(old)

    sync(tenant)
    post_collect_and_sync(tenant)

    assert tenant.stripe_customer_id != old
    assert live_items(sandbox, tenant) == {prices["basic"]: 1}
    assert all(r.status == "active" for r in tenant.relays.all())


def test_customer_deleted_before_the_first_subscription_is_replaced(
    sandbox, tenant, customer, prices
):
    sandbox.client().v1.customers.delete(customer)
    add_relay(tenant)

    sync(tenant)

    assert tenant.stripe_customer_id != customer
    assert live_items(sandbox, tenant) == {prices["basic"]: 1}


# --- errors


@pytest.mark.parametrize("path", ["/v1/customers", SUBSCRIPTIONS_PATH])
@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, {"type": "invalid_request_error", "message": "no"}, "stripe-refused"),
        (402, {"type": "card_error", "code": "card_declined"}, "stripe-refused"),
        (404, {"code": "resource_missing", "message": "no"}, "stripe-not-found"),
        (409, {"type": "idempotency_error", "message": "no"}, "stripe-unavailable"),
        (429, {"type": "invalid_request_error"}, "stripe-rate-limited"),
        (500, {"type": "api_error", "message": "no"}, "stripe-unavailable"),
    ],
)
def test_error_answer_is_recorded_and_next_sync_succeeds(
    sandbox, tenant, prices, path, status, error, code
):
    add_relay(tenant)
    sandbox.fault("status", path=f"^{path}$", status=status, error=error, times=3)

    row = sync(tenant, SyncOutcome.FAILED)
    assert row.is_stale
    assert row.last_error_code == code
    assert row.next_attempt_at > timezone.now()
    assert tenant.stripe_subscription_id is None

    sandbox.clear_faults()
    sync(tenant)
    assert live_items(sandbox, tenant) == {prices["basic"]: 1}
    assert len(sandbox.client().v1.customers.list({}).data) == 1


@pytest.mark.parametrize("path", ["/v1/customers", SUBSCRIPTIONS_PATH])
@pytest.mark.parametrize("kind", ["reset", "status"])
def test_lost_answer_is_looked_up_and_not_repeated(sandbox, tenant, prices, path, kind):
    add_relay(tenant)
    sandbox.fault(kind, path=f"^{path}$", when="after", times=3)
    sync(tenant, SyncOutcome.FAILED)

    sandbox.clear_faults()
    sync(tenant)

    assert live_items(sandbox, tenant) == {prices["basic"]: 1}
    assert len(all_subscriptions(sandbox)) == 1
    assert len(sandbox.client().v1.customers.list({}).data) == 1


def test_tenant_stays_stale_when_stripe_is_unreachable(tenant, settings):
    settings.STRIPE_API_BASE = "http://127.0.0.1:1"
    add_relay(tenant)

    row = sync(tenant, SyncOutcome.FAILED)

    assert row.last_error_code == "stripe-unavailable"
    assert row.is_stale


def test_missing_price_is_recorded_and_next_sync_succeeds(sandbox, tenant, prices):
    Plan.objects.filter(pk="basic").update(stripe_price_id=None)
    add_relay(tenant)
    before = len(sandbox.requests())
    row = sync(tenant, SyncOutcome.FAILED)
    assert row.last_error_code == "plan-price-missing"
    assert len(sandbox.requests()) == before

    Plan.objects.filter(pk="basic").update(stripe_price_id=prices["basic"])
    sync(tenant)

    assert live_items(sandbox, tenant) == {prices["basic"]: 1}


def test_unexpected_error_is_recorded_and_raised(sandbox, tenant, monkeypatch):
    add_relay(tenant)
    monkeypatch.setattr(Subscriptions, "list", lambda self, **kw: 1 / 0)
    mark_stale(tenant_id=tenant.pk)

    with pytest.raises(ZeroDivisionError):
        sync_tenant(tenant_id=tenant.pk)

    row = SubscriptionSync.objects.get(pk=tenant.pk)
    assert row.last_error_code == "ZeroDivisionError"
    assert row.lease_token is None
    assert row.is_stale


def test_create_without_effect_gets_a_new_key_after_ten_minutes(
    sandbox, tenant, prices
):
    """No try reached Stripe."""
    add_relay(tenant)
    start = timezone.now()
    sandbox.fault("reset", path=f"^{SUBSCRIPTIONS_PATH}$", times=None)
    sync(tenant, SyncOutcome.FAILED)
    first = StripeWrite.objects.get(kind="subscription.create")

    sandbox.clear_faults()
    with time_machine.travel(start + timedelta(minutes=5)):
        row = sync(tenant, SyncOutcome.FAILED)
        assert row.last_error_code == "stripe-intent-unresolved"
        assert all_subscriptions(sandbox) == []
    with time_machine.travel(start + timedelta(minutes=11)):
        sync(tenant)

    first.refresh_from_db()
    assert first.state == "abandoned"
    assert live_items(sandbox, tenant) == {prices["basic"]: 1}
    generations = StripeWrite.objects.filter(kind="subscription.create")
    assert sorted(generations.values_list("generation", flat=True)) == [1, 2]


def test_unwanted_subscription_of_a_lost_answer_is_cancelled(sandbox, tenant):
    relay = add_relay(tenant)
    start = timezone.now()
    sandbox.fault("reset", path=f"^{SUBSCRIPTIONS_PATH}$", when="after", times=3)
    sync(tenant, SyncOutcome.FAILED)
    lifecycle.deactivate_relay(relay_id=relay.pk)

    sandbox.clear_faults()
    with time_machine.travel(start + timedelta(minutes=1)):
        sync(tenant)

    assert [s.status for s in all_subscriptions(sandbox)] == ["canceled"]
    assert not StripeWrite.objects.pending().exists()
