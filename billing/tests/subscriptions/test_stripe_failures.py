"""Crashes and bad answers of Stripe: no duplicates, no loss, no tenant left stuck."""

from datetime import timedelta

import pytest
import stripe as sdk
import time_machine
from django.utils import timezone

from billing.clients.stripe import errors
from billing.clients.stripe import transport as client_module
from billing.clients.stripe.client import Item, Stripe, Subscription
from billing.clients.stripe.subscriptions import Subscriptions
from billing.models import StripeWrite, SubscriptionSync
from billing.services.customers.catalog import ensure_prices
from billing.services.stripe_writes import writes
from billing.services.subscriptions.diff import diff_subscriptions
from billing.services.subscriptions.sync import SyncOutcome, sync_tenant
from billing.services.sync.queue import mark_stale
from billing.tests.support.renewals import until_draft
from billing.tests.support.subscriptions import (
    SUBSCRIPTIONS_PATH,
    add_relay,
    all_subscriptions,
    create_subscription_at_stripe,
    live_items,
    pay_all_invoices,
    sync,
    sync_until_in_sync,
)
from billing.tests.support.workers import Killed
from relays.services import lifecycle
from relays.tests.factories import RelayFactory
from sandbox.stripe.client.testing import running_sandbox
from tenants.tests.factories import TenantFactory, confirm_address

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(prices):
    return TenantFactory()


def customers(sandbox):
    return sandbox.client().v1.customers.list({"limit": 100}).data


def live_ids(sandbox):
    return [sub.id for sub in all_subscriptions(sandbox) if sub.status == "active"]


def kill_after(monkeypatch, owner, name):
    """Kill the process right after the function has returned."""
    real = getattr(owner, name)

    def die(*args, **kwargs):
        real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(owner, name, die)


def after(**delay):
    return time_machine.travel(timezone.now() + timedelta(**delay))


# --- crashes between two steps


@pytest.mark.parametrize("nth", [1, 2])
def test_one_customer_and_subscription_exist_when_killed_while_resolving_a_write(
    sandbox, tenant, monkeypatch, nth
):
    """The first write creates the customer, the second the subscription."""
    add_relay(tenant)
    resolved = []
    real = writes.mark_succeeded

    def die_at_nth(write, stripe_id):
        real(write, stripe_id)
        resolved.append(stripe_id)
        if len(resolved) == nth:
            raise Killed

    monkeypatch.setattr(writes, "mark_succeeded", die_at_nth)
    mark_stale(tenant_id=tenant.pk)
    with pytest.raises(Killed):
        sync_tenant(tenant_id=tenant.pk)
    monkeypatch.setattr(writes, "mark_succeeded", real)

    with after(minutes=6):
        sync(tenant)

    assert len(customers(sandbox)) == 1
    assert live_ids(sandbox) == [tenant.stripe_subscription_id]


def test_cancellation_by_a_person_before_the_id_is_stored_is_respected(
    sandbox, tenant, monkeypatch
):
    relay = add_relay(tenant)
    mark_stale(tenant_id=tenant.pk)
    kill_after(monkeypatch, Subscriptions, "create")
    with pytest.raises(Killed):
        sync_tenant(tenant_id=tenant.pk)
    monkeypatch.undo()
    (subscription,) = all_subscriptions(sandbox)
    sandbox.client().v1.subscriptions.cancel(subscription.id)

    with after(minutes=6):
        sync_until_in_sync(tenant)

    relay.refresh_from_db()
    assert relay.status == "inactive"
    assert len(all_subscriptions(sandbox)) == 1


# --- misleading answers


def test_key_of_another_account_changes_nothing(sandbox, tenant, settings):
    add_relay(tenant)
    sync(tenant)
    before = (tenant.stripe_customer_id, tenant.stripe_subscription_id)

    with running_sandbox() as other:
        settings.STRIPE_API_BASE = other.url
        row = sync(tenant, SyncOutcome.FAILED)
        assert row.last_error_code == "stripe-not-found"
        assert all_subscriptions(other) == []

    settings.STRIPE_API_BASE = sandbox.url
    with after(hours=1):
        sync(tenant)
    assert (tenant.stripe_customer_id, tenant.stripe_subscription_id) == before
    assert live_ids(sandbox) == [before[1]]


def test_404_response_of_a_proxy_changes_nothing(sandbox, tenant):
    add_relay(tenant)
    sync(tenant)
    before = tenant.stripe_subscription_id
    missing = {"code": "resource_missing", "param": "customer"}
    sandbox.fault(
        "status", method="GET", path="/v1/", status=404, error=missing, times=2
    )

    sync(tenant, SyncOutcome.FAILED)
    sandbox.clear_faults()
    with after(minutes=1):
        sync(tenant)

    assert live_ids(sandbox) == [before]


def test_truncated_200_is_retried_instead_of_refused(sandbox, tenant, monkeypatch):
    add_relay(tenant)
    real = sdk.RequestsClient.request
    truncated: list[bytes] = []

    def truncate_once(self, method, url, headers, post_data=None):
        body, status, answer_headers = real(self, method, url, headers, post_data)
        if method == "post" and not truncated:
            truncated.append(body)
            body = body[: len(body) // 2]
        return body, status, answer_headers

    monkeypatch.setattr(sdk.RequestsClient, "request", truncate_once)
    client_module._client.cache_clear()
    sync(tenant)
    client_module._client.cache_clear()

    assert truncated
    assert len(customers(sandbox)) == 1


@pytest.mark.parametrize("path", ["/v1/customers", SUBSCRIPTIONS_PATH])
def test_write_with_an_unreadable_answer_stays_pending_and_is_resolved(
    sandbox, tenant, monkeypatch, path
):
    add_relay(tenant)
    real = sdk.RequestsClient.request
    answers: list[str] = []

    def empty_once(self, method, url, headers, post_data=None):
        body, status, answer_headers = real(self, method, url, headers, post_data)
        if method == "post" and url.endswith(path) and not answers:
            answers.append(url)
            body = b"{}"
        return body, status, answer_headers

    monkeypatch.setattr(sdk.RequestsClient, "request", empty_once)
    row = sync(tenant, SyncOutcome.FAILED)

    assert row.last_error_code == "stripe-answer-unreadable"
    assert StripeWrite.objects.pending().get().unknown_since
    with after(minutes=1):
        sync(tenant)
    assert not StripeWrite.objects.pending().exists()
    assert (len(customers(sandbox)), len(live_ids(sandbox))) == (1, 1)


def test_body_of_a_proxy_error_is_not_recorded(sandbox, tenant):
    add_relay(tenant)
    sandbox.fault("status", path="^/v1/customers$", status=502, times=None)

    row = sync(tenant, SyncOutcome.FAILED)

    assert row.last_error_code == "stripe-unavailable"
    assert "{" not in row.last_error


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_write_stays_pending_when_refused_after_an_unanswered_try(
    sandbox, tenant, status
):
    """The first try took effect, which the refusal of the second does not show."""
    add_relay(tenant)
    sandbox.fault("reset", path="^/v1/customers$", when="after")
    sandbox.fault("status", path="^/v1/customers$", status=status, times=2)

    sync(tenant, SyncOutcome.FAILED)
    assert StripeWrite.objects.get().state == "pending"
    sandbox.clear_faults()
    with after(minutes=1):
        sync(tenant)

    assert len(customers(sandbox)) == 1


def test_write_is_unresolved_when_rate_limited_after_an_unanswered_try(
    sandbox, tenant, monkeypatch
):
    relay = add_relay(tenant)
    creating = StripeWrite.objects.filter(
        kind="subscription.create", tried_at__isnull=False
    )
    tokens = []

    def refuse_second_try(**options):
        if creating.exists():
            tokens.append(1)
        if len(tokens) > 1:
            raise errors.StripeRateLimited("too many")

    monkeypatch.setattr(client_module, "acquire", refuse_second_try)
    sandbox.fault("reset", path=f"^{SUBSCRIPTIONS_PATH}$")
    sync(tenant, SyncOutcome.FAILED)
    assert creating.get().unknown_since

    monkeypatch.undo()
    lifecycle.deactivate_relay(relay_id=relay.pk)
    row = sync(tenant, SyncOutcome.FAILED)
    assert row.last_error_code == "stripe-intent-unresolved"


def test_customer_of_a_lost_answer_is_found_when_no_longer_needed(sandbox, tenant):
    relay = add_relay(tenant)
    sandbox.fault("reset", path="^/v1/customers$", when="after", times=3)
    sync(tenant, SyncOutcome.FAILED)
    lifecycle.deactivate_relay(relay_id=relay.pk)
    sandbox.clear_faults()

    with after(days=3):
        sync(tenant)

    assert not StripeWrite.objects.pending().exists()
    assert tenant.stripe_customer_id == customers(sandbox)[0].id


def test_pending_create_is_abandoned_with_its_deleted_customer(sandbox, tenant):
    add_relay(tenant)
    sandbox.fault("reset", path=f"^{SUBSCRIPTIONS_PATH}$", times=3)
    sync(tenant, SyncOutcome.FAILED)
    sandbox.clear_faults()
    sandbox.client().v1.customers.delete(tenant.stripe_customer_id)

    for minutes in (1, 12, 30):
        with after(minutes=minutes):
            mark_stale(tenant_id=tenant.pk)
            sync_tenant(tenant_id=tenant.pk)

    tenant.refresh_from_db()
    assert not SubscriptionSync.objects.get().is_stale
    assert live_ids(sandbox) == [tenant.stripe_subscription_id]


def test_placeholder_email_is_used_when_stripe_refuses_the_tenants_own(sandbox, prices):
    tenant = TenantFactory(email="odd@example.com")
    confirm_address(tenant)
    add_relay(tenant)
    sandbox.fault(
        "status",
        path="^/v1/customers$",
        status=400,
        error={"type": "invalid_request_error", "param": "email", "message": "no"},
    )

    sync(tenant)

    (customer,) = customers(sandbox)
    assert customer.email == f"{tenant.npub}@tenants.caravel.example"
    assert live_items(sandbox, tenant) == {prices["basic"]: 1}


# --- cancellations


@pytest.fixture
def paid_relay(sandbox, tenant):
    """A relay whose first invoice is paid, so that nothing is owed."""
    relay = add_relay(tenant)
    sync(tenant)
    pay_all_invoices(sandbox)
    return relay


def test_new_subscription_is_created_although_final_invoice_is_refused(
    sandbox, tenant, paid_relay, caplog
):
    lifecycle.deactivate_relay(relay_id=paid_relay.pk)
    sandbox.fault("status", path="/finalize", status=400, times=None)

    sync(tenant)
    lifecycle.activate_relay(relay_id=paid_relay.pk)
    sync(tenant)

    assert "finalization_refused" in caplog.text
    assert len(live_ids(sandbox)) == 1
    failed = StripeWrite.objects.get(kind="subscription.cancel")
    assert failed.state == "failed"


def test_quantities_are_updated_although_a_cancellation_is_refused(
    sandbox, tenant, paid_relay, prices
):
    create_subscription_at_stripe(sandbox, tenant, prices["growth"])
    add_relay(tenant)
    sandbox.fault("status", method="DELETE", status=400, times=None)

    row = sync(tenant, SyncOutcome.FAILED)

    assert row.last_error_code == "stripe-refused"
    api = sandbox.client().v1.subscriptions
    items = api.retrieve(tenant.stripe_subscription_id).items.data
    assert [item.quantity for item in items] == [2]
    sandbox.clear_faults()
    with after(minutes=1):
        sync(tenant)
    assert live_items(sandbox, tenant) == {prices["basic"]: 2}


def test_rate_limited_cancellation_is_dropped_when_relay_is_activated_again(
    sandbox, tenant, paid_relay
):
    before = tenant.stripe_subscription_id
    lifecycle.deactivate_relay(relay_id=paid_relay.pk)
    sandbox.fault("status", method="DELETE", status=429, times=3)
    sync(tenant, SyncOutcome.FAILED)

    lifecycle.activate_relay(relay_id=paid_relay.pk)
    sync(tenant)

    assert live_ids(sandbox) == [before]
    assert len(sandbox.client().v1.invoices.list({}).data) == 1


@pytest.mark.parametrize("status", [400, 429])
def test_cancellation_by_a_person_is_respected_after_caravels_has_failed(
    sandbox, tenant, paid_relay, status
):
    """The failed cancellation had no effect, so it did not cause the later end."""
    lifecycle.deactivate_relay(relay_id=paid_relay.pk)
    sandbox.fault("status", method="DELETE", status=status, times=3)
    sync(tenant, SyncOutcome.FAILED)
    sandbox.clear_faults()
    lifecycle.activate_relay(relay_id=paid_relay.pk)
    with after(minutes=1):
        sync(tenant)
    sandbox.advance(3600)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)

    with after(hours=1):
        sync_until_in_sync(tenant)

    paid_relay.refresh_from_db()
    assert paid_relay.status == "inactive"
    assert live_ids(sandbox) == []


def test_abandoned_cancellation_that_took_effect_late_deactivates_no_relay(
    sandbox, tenant, paid_relay
):
    lifecycle.deactivate_relay(relay_id=paid_relay.pk)
    sandbox.fault("reset", method="DELETE", times=3)
    sync(tenant, SyncOutcome.FAILED)
    lifecycle.activate_relay(relay_id=paid_relay.pk)
    sync(tenant)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)

    sync_until_in_sync(tenant)

    paid_relay.refresh_from_db()
    assert paid_relay.status == "active"
    assert live_ids(sandbox) == [tenant.stripe_subscription_id]


def test_no_credit_for_an_unpaid_renewal_after_a_failed_cancellation(
    sandbox, tenant, paid_relay
):
    """The failed cancellation's terms, from before the renewal, would credit it."""
    lifecycle.deactivate_relay(relay_id=paid_relay.pk)
    sandbox.fault("status", method="DELETE", status=500, times=3)
    sync(tenant, SyncOutcome.FAILED)
    sandbox.clear_faults()
    sandbox.advance(int((until_draft(sandbox) + timedelta(days=2)).total_seconds()))

    with after(minutes=1):
        sync(tenant)

    customer = sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id)
    # A debit: the two days since the renewal cost less than the minimum charge.
    assert 0 < customer.balance < 50
    assert live_ids(sandbox) == []


# --- items and prices


def test_second_item_with_the_same_price_is_deleted():
    twice = Subscription(
        id="sub_1",
        customer="cus_1",
        status="active",
        created=1,
        collection_method="send_invoice",
        items=(Item("si_1", "p1", 1), Item("si_2", "p1", 1)),
        metadata={"tenant_pubkey": "ab"},
        cancel_reason="",
    )

    diff = diff_subscriptions(
        {"p1": 1}, [twice], tenant_pubkey="ab", current_id="sub_1"
    )

    assert diff.items == ({"id": "si_2", "deleted": True},)


def test_item_is_added_once_when_the_answer_is_lost(sandbox, tenant, prices):
    add_relay(tenant)
    sync(tenant)
    add_relay(tenant, plan="growth")
    sandbox.fault("reset", path=f"^{SUBSCRIPTIONS_PATH}/", when="after")

    sync(tenant)

    assert live_items(sandbox, tenant) == {prices["basic"]: 1, prices["growth"]: 1}


def test_archived_price_is_replaced_by_an_active_one(sandbox, prices):
    sandbox.client().v1.prices.update(prices["basic"], {"active": False})

    new_prices = {price.plan_id: price.price_id for price in ensure_prices(Stripe())}

    assert new_prices["basic"] != prices["basic"]
    assert sandbox.client().v1.prices.retrieve(new_prices["basic"]).active


def test_no_request_for_a_message_when_in_sync(sandbox, tenant):
    add_relay(tenant)
    sync(tenant)
    before = len(sandbox.requests())

    assert sync_tenant(tenant_id=tenant.pk) == SyncOutcome.NOT_DUE

    assert len(sandbox.requests()) == before


def test_idempotency_keys_of_two_databases_differ(prices):
    keys = set()
    for _ in range(2):
        relay = RelayFactory(tenant__pubkey=TenantFactory.build().pubkey)
        sync_tenant(tenant_id=relay.tenant_id)
        keys.add(StripeWrite.objects.latest("pk").idempotency_key.rsplit(":", 1)[1])

    assert len(keys) == 2
