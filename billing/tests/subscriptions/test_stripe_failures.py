"""What must not make two of anything, lose anything or leave a tenant stuck."""

from datetime import timedelta

import pytest
import stripe as sdk
import time_machine
from django.utils import timezone

from billing import exceptions
from billing.clients.stripe import transport as client_module
from billing.clients.stripe.client import Item, Stripe, Subscription
from billing.models import StripeWrite, SubscriptionSync
from billing.services.customers.catalog import ensure_prices
from billing.services.stripe_writes import writes
from billing.services.subscriptions.diff import diff_subscriptions
from billing.services.subscriptions.sync import SyncOutcome, sync_tenant
from billing.services.sync.queue import mark_stale
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
from sandbox.stripe.testing import running_sandbox
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(prices):
    return TenantFactory()


def customers(sandbox):
    return sandbox.client().v1.customers.list({"limit": 100}).data


def live_ids(sandbox):
    return [sub.id for sub in all_subscriptions(sandbox) if sub.status == "active"]


def kill_after(monkeypatch, owner, name):
    """Let a function do its work and the process die right after."""
    work = getattr(owner, name)

    def die(*args, **kwargs):
        work(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(owner, name, die)


def later(**delay):
    return time_machine.travel(timezone.now() + timedelta(**delay))


# --- crashes between our own two steps


@pytest.mark.parametrize("nth", [1, 2])
def test_killed_while_an_intent_is_resolved(sandbox, tenant, monkeypatch, nth):
    """The first intent is the customer's, the second the subscription's."""
    add_relay(tenant)
    resolved = []
    real = writes.mark_succeeded

    def die_at_nth(intent, stripe_id):
        real(intent, stripe_id)
        resolved.append(stripe_id)
        if len(resolved) == nth:
            raise Killed

    monkeypatch.setattr(writes, "mark_succeeded", die_at_nth)
    mark_stale(tenant_id=tenant.pk)
    with pytest.raises(Killed):
        sync_tenant(tenant_id=tenant.pk)
    monkeypatch.setattr(writes, "mark_succeeded", real)

    with later(minutes=6):
        sync(tenant)

    assert len(customers(sandbox)) == 1
    assert live_ids(sandbox) == [tenant.stripe_subscription_id]


def test_a_person_who_cancels_before_the_id_was_stored_is_obeyed(
    sandbox, tenant, monkeypatch
):
    relay = add_relay(tenant)
    mark_stale(tenant_id=tenant.pk)
    kill_after(monkeypatch, Stripe, "create_subscription")
    with pytest.raises(Killed):
        sync_tenant(tenant_id=tenant.pk)
    monkeypatch.undo()
    (made,) = all_subscriptions(sandbox)
    sandbox.client().v1.subscriptions.cancel(made.id)

    with later(minutes=6):
        sync_until_in_sync(tenant)

    relay.refresh_from_db()
    assert relay.status == "inactive"
    assert len(all_subscriptions(sandbox)) == 1


# --- answers that are not what they seem


def test_another_accounts_key_changes_nothing(sandbox, tenant, settings):
    add_relay(tenant)
    sync(tenant)
    before = (tenant.stripe_customer_id, tenant.stripe_subscription_id)

    with running_sandbox() as other:
        settings.STRIPE_API_BASE = other.url
        row = sync(tenant, SyncOutcome.FAILED)
        assert row.last_error_code == "stripe-not-found"
        assert all_subscriptions(other) == []

    settings.STRIPE_API_BASE = sandbox.url
    with later(hours=1):
        sync(tenant)
    assert (tenant.stripe_customer_id, tenant.stripe_subscription_id) == before
    assert live_ids(sandbox) == [before[1]]


def test_a_404_from_somebody_in_front_of_stripe_changes_nothing(sandbox, tenant):
    add_relay(tenant)
    sync(tenant)
    before = tenant.stripe_subscription_id
    missing = {"code": "resource_missing", "param": "customer"}
    sandbox.fault(
        "status", method="GET", path="/v1/", status=404, error=missing, times=2
    )

    sync(tenant, SyncOutcome.FAILED)
    sandbox.clear_faults()
    with later(minutes=1):
        sync(tenant)

    assert live_ids(sandbox) == [before]


def test_an_unreadable_200_is_no_refusal(sandbox, tenant, monkeypatch):
    add_relay(tenant)
    real = sdk.RequestsClient.request
    cut: list[bytes] = []

    def truncate_once(self, method, url, headers, post_data=None):
        body, status, answer_headers = real(self, method, url, headers, post_data)
        if method == "post" and not cut:
            cut.append(body)
            body = body[: len(body) // 2]
        return body, status, answer_headers

    monkeypatch.setattr(sdk.RequestsClient, "request", truncate_once)
    client_module._client.cache_clear()
    sync(tenant)
    client_module._client.cache_clear()

    assert cut
    assert len(customers(sandbox)) == 1


def test_what_a_stranger_answers_is_not_repeated_in_our_records(sandbox, tenant):
    add_relay(tenant)
    sandbox.fault("status", path="^/v1/customers$", status=502, times=None)

    row = sync(tenant, SyncOutcome.FAILED)

    assert row.last_error_code == "stripe-unavailable"
    assert "{" not in row.last_error


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_a_refusal_after_silence_leaves_the_outcome_open(sandbox, tenant, status):
    """The first try was carried out; whoever refuses the second did not see it."""
    add_relay(tenant)
    sandbox.fault("reset", path="^/v1/customers$", when="after")
    sandbox.fault("status", path="^/v1/customers$", status=status, times=2)

    sync(tenant, SyncOutcome.FAILED)
    assert StripeWrite.objects.get().state == "pending"
    sandbox.clear_faults()
    with later(minutes=1):
        sync(tenant)

    assert len(customers(sandbox)) == 1


def test_our_own_limit_does_not_hide_that_a_request_was_sent(
    sandbox, tenant, monkeypatch
):
    relay = add_relay(tenant)
    creating = StripeWrite.objects.filter(
        kind="subscription.create", tried_at__isnull=False
    )
    tokens = []

    def none_left_for_a_second_try(*, sleep):
        if creating.exists():
            tokens.append(1)
        if len(tokens) > 1:
            raise exceptions.StripeRateLimited("too many")

    monkeypatch.setattr(client_module, "acquire", none_left_for_a_second_try)
    sandbox.fault("reset", path=f"^{SUBSCRIPTIONS_PATH}$")
    sync(tenant, SyncOutcome.FAILED)
    assert creating.get().unknown_since

    monkeypatch.undo()
    lifecycle.deactivate_relay(relay_id=relay.pk)
    row = sync(tenant, SyncOutcome.FAILED)
    assert row.last_error_code == "stripe-intent-unresolved"


def test_a_customer_that_came_of_a_lost_answer_is_found_though_not_needed(
    sandbox, tenant
):
    relay = add_relay(tenant)
    sandbox.fault("reset", path="^/v1/customers$", when="after", times=3)
    sync(tenant, SyncOutcome.FAILED)
    lifecycle.deactivate_relay(relay_id=relay.pk)
    sandbox.clear_faults()

    with later(days=3):
        sync(tenant)

    assert not StripeWrite.objects.pending().exists()
    assert tenant.stripe_customer_id == customers(sandbox)[0].id


def test_an_open_creation_does_not_outlive_its_customer(sandbox, tenant):
    add_relay(tenant)
    sandbox.fault("reset", path=f"^{SUBSCRIPTIONS_PATH}$", times=3)
    sync(tenant, SyncOutcome.FAILED)
    sandbox.clear_faults()
    sandbox.client().v1.customers.delete(tenant.stripe_customer_id)

    for minutes in (1, 12, 30):
        with later(minutes=minutes):
            mark_stale(tenant_id=tenant.pk)
            sync_tenant(tenant_id=tenant.pk)

    tenant.refresh_from_db()
    assert not SubscriptionSync.objects.get().is_stale
    assert live_ids(sandbox) == [tenant.stripe_subscription_id]


def test_an_email_that_only_stripe_refuses_makes_nothing_free(sandbox, prices):
    tenant = TenantFactory(email="odd@example.com")
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
def paid(sandbox, tenant):
    """A relay whose first invoice is paid, so that nothing is owed."""
    relay = add_relay(tenant)
    sync(tenant)
    pay_all_invoices(sandbox)
    return relay


def test_a_final_invoice_that_stripe_refuses_does_not_stop_the_tenant(
    sandbox, tenant, paid, caplog
):
    lifecycle.deactivate_relay(relay_id=paid.pk)
    sandbox.fault("status", path="/finalize", status=400, times=None)

    sync(tenant)
    lifecycle.activate_relay(relay_id=paid.pk)
    sync(tenant)

    assert "final_invoice_refused" in caplog.text
    assert len(live_ids(sandbox)) == 1
    failed = StripeWrite.objects.get(kind="subscription.cancel")
    assert failed.state == "failed"


def test_a_cancel_that_stripe_refuses_does_not_stop_the_relays(
    sandbox, tenant, paid, prices
):
    create_subscription_at_stripe(sandbox, tenant, prices["growth"])
    add_relay(tenant)
    sandbox.fault("status", method="DELETE", status=400, times=None)

    row = sync(tenant, SyncOutcome.FAILED)

    assert row.last_error_code == "stripe-refused"
    kept = sandbox.client().v1.subscriptions.retrieve(tenant.stripe_subscription_id)
    assert [item.quantity for item in kept.items.data] == [2]
    sandbox.clear_faults()
    with later(minutes=1):
        sync(tenant)
    assert live_items(sandbox, tenant) == {prices["basic"]: 2}


def test_a_cancel_that_was_turned_away_is_forgotten_when_the_relay_is_back(
    sandbox, tenant, paid
):
    before = tenant.stripe_subscription_id
    lifecycle.deactivate_relay(relay_id=paid.pk)
    sandbox.fault("status", method="DELETE", status=429, times=3)
    sync(tenant, SyncOutcome.FAILED)

    lifecycle.activate_relay(relay_id=paid.pk)
    sync(tenant)

    assert live_ids(sandbox) == [before]
    assert len(sandbox.client().v1.invoices.list({}).data) == 1


@pytest.mark.parametrize("status", [400, 429])
def test_a_person_may_cancel_what_we_once_failed_to(sandbox, tenant, paid, status):
    """Our cancel had no effect, so the end that comes later is not ours."""
    lifecycle.deactivate_relay(relay_id=paid.pk)
    sandbox.fault("status", method="DELETE", status=status, times=3)
    sync(tenant, SyncOutcome.FAILED)
    sandbox.clear_faults()
    lifecycle.activate_relay(relay_id=paid.pk)
    with later(minutes=1):
        sync(tenant)
    sandbox.advance(3600)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)

    with later(hours=1):
        sync_until_in_sync(tenant)

    paid.refresh_from_db()
    assert paid.status == "inactive"
    assert live_ids(sandbox) == []


def test_a_cancel_that_was_given_up_and_happened_after_all_is_ours(
    sandbox, tenant, paid
):
    lifecycle.deactivate_relay(relay_id=paid.pk)
    sandbox.fault("reset", method="DELETE", times=3)
    sync(tenant, SyncOutcome.FAILED)
    lifecycle.activate_relay(relay_id=paid.pk)
    sync(tenant)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)

    sync_until_in_sync(tenant)

    paid.refresh_from_db()
    assert paid.status == "active"
    assert live_ids(sandbox) == [tenant.stripe_subscription_id]


def test_a_cancel_is_not_settled_on_terms_of_before_the_renewal(sandbox, tenant, paid):
    """Credit for time that was not paid would be a gift."""
    lifecycle.deactivate_relay(relay_id=paid.pk)
    sandbox.fault("status", method="DELETE", status=500, times=3)
    sync(tenant, SyncOutcome.FAILED)
    sandbox.clear_faults()
    sandbox.advance(32 * 24 * 3600)

    with later(minutes=1):
        sync(tenant)

    customer = sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id)
    # No credit; the two days that were served are too little to be charged now.
    assert 0 < customer.balance < 50
    assert live_ids(sandbox) == []


# --- items and prices


def test_a_second_item_with_the_same_price_is_deleted():
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

    found = diff_subscriptions(
        {"p1": 1}, [twice], tenant_pubkey="ab", current_id="sub_1"
    )

    assert found.items == ({"id": "si_2", "deleted": True},)


def test_an_added_item_whose_answer_was_lost_is_added_once(sandbox, tenant, prices):
    add_relay(tenant)
    sync(tenant)
    add_relay(tenant, plan="growth")
    sandbox.fault("reset", path=f"^{SUBSCRIPTIONS_PATH}/", when="after")

    sync(tenant)

    assert live_items(sandbox, tenant) == {prices["basic"]: 1, prices["growth"]: 1}


def test_an_archived_price_is_replaced_by_one_that_can_be_used(sandbox, prices):
    sandbox.client().v1.prices.update(prices["basic"], {"active": False})

    made = {price.plan_id: price.price_id for price in ensure_prices(Stripe())}

    assert made["basic"] != prices["basic"]
    assert sandbox.client().v1.prices.retrieve(made["basic"]).active


def test_a_late_message_costs_no_request(sandbox, tenant):
    add_relay(tenant)
    sync(tenant)
    before = len(sandbox.requests())

    assert sync_tenant(tenant_id=tenant.pk) == SyncOutcome.NOT_DUE

    assert len(sandbox.requests()) == before


def test_a_key_is_never_one_that_another_database_used(prices):
    keys = set()
    for _ in range(2):
        relay = RelayFactory(tenant__pubkey=TenantFactory.build().pubkey)
        sync_tenant(tenant_id=relay.tenant_id)
        keys.add(StripeWrite.objects.latest("pk").idempotency_key.rsplit(":", 1)[1])

    assert len(keys) == 2
