"""Subscriptions that staff pause: nothing is cancelled, replaced or charged."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.clients.stripe.types import to_datetime
from billing.models import Credit, InvoiceCollection, SubscriptionSync
from billing.services.customers.closing import close_tenant
from billing.services.dunning.payment_block import is_on_hold
from billing.services.dunning.suspension import review_tenant, tenants_to_review
from billing.services.subscriptions.pauses import record_pauses
from billing.services.subscriptions.sync import SyncOutcome
from billing.services.subscriptions.unused_time import ended_at
from billing.tests.support.collection import attach
from billing.tests.support.credits import owe
from billing.tests.support.holds import (
    collect,
    pause_collection,
    pause_subscription,
    process_events,
    record_newest,
    resume_subscription,
)
from billing.tests.support.renewals import until_draft
from billing.tests.support.subscriptions import (
    add_relay,
    all_subscriptions,
    create_subscription_at_stripe,
    post_collect_and_sync,
    sync,
    sync_until_in_sync,
)
from relays.exceptions import BillingOnHold
from relays.models import Relay
from relays.services import lifecycle
from tenants.models import Notice, Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def payer(subscriber: Tenant, sandbox, clock) -> Tenant:
    """A tenant whose card has paid its first month."""
    attach(sandbox, subscriber)
    assert collect(record_newest(subscriber)).stripe_status == "paid"
    return subscriber


@pytest.fixture
def paused(payer: Tenant, sandbox, clock) -> Tenant:
    """A tenant whose subscription staff have paused after ten days."""
    clock.move(days=10)
    pause_subscription(sandbox, payer)
    sync_until_in_sync(payer)
    return payer


def relay_of(tenant) -> Relay:
    return Relay.objects.get(tenant=tenant, subdomain="first")


def current(sandbox, tenant) -> Any:
    tenant.refresh_from_db()
    return sandbox.client().v1.subscriptions.retrieve(tenant.stripe_subscription_id)


def writes(sandbox) -> list[str]:
    return [
        f"{each['method']} {each['path']}"
        for each in sandbox.requests()
        if each["method"] != "GET"
    ]


def titles(tenant, kind) -> list[str]:
    return list(
        Notice.objects.filter(tenant=tenant, kind=kind).values_list("title", flat=True)
    )


# --- the status `paused`


def test_paused_subscription_is_not_cancelled_replaced_switched_or_charged(
    paused, sandbox, clock
):
    invoices, before = InvoiceCollection.objects.count(), len(writes(sandbox))

    for _ in range(3):
        clock.move(days=20)
        sync(paused)
        review_tenant(tenant_id=paused.pk)

    (subscription,) = all_subscriptions(sandbox)
    assert subscription.id == paused.stripe_subscription_id
    assert subscription.status == "paused"
    assert subscription.collection_method == "charge_automatically"
    assert len(writes(sandbox)) == before
    assert InvoiceCollection.objects.count() == invoices


def test_relays_are_off_while_paused_and_the_tenant_is_told_why(paused):
    assert relay_of(paused).status == "delinquent"
    assert titles(paused, "subscription_paused") == [
        "Your relays are off: your subscription is paused"
    ]
    assert titles(paused, "suspended") == []
    assert paused.pk not in tenants_to_review(timezone.now())


def test_relays_of_an_exempt_tenant_are_off_while_paused(payer, sandbox):
    Tenant.objects.filter(pk=payer.pk).update(dunning_exempt=True)
    pause_subscription(sandbox, payer)

    sync_until_in_sync(payer)

    assert relay_of(payer).status == "delinquent"


def test_nothing_is_sold_while_paused(paused):
    relay = relay_of(paused)

    with pytest.raises(BillingOnHold):
        lifecycle.create_relay(tenant_id=paused.pk, subdomain="second", plan_id="basic")
    with pytest.raises(BillingOnHold):
        lifecycle.activate_relay(relay_id=relay.pk)
    with pytest.raises(BillingOnHold):
        lifecycle.change_plan(relay_id=relay.pk, plan_id="growth")
    lifecycle.create_relay(tenant_id=paused.pk, subdomain="third", plan_id="free")


def test_resumed_subscription_switches_the_relays_on_and_is_collected_by_us(
    paused, sandbox, clock
):
    clock.move(days=5)
    resume_subscription(sandbox, paused)

    sync_until_in_sync(paused)

    assert relay_of(paused).status == "active"
    subscription = current(sandbox, paused)
    assert (subscription.status, subscription.collection_method) == (
        "active",
        "send_invoice",
    )
    assert len(all_subscriptions(sandbox)) == 1
    assert titles(paused, "subscription_resumed") == ["Your relays are on again"]
    assert not is_on_hold(paused)
    lifecycle.create_relay(tenant_id=paused.pk, subdomain="second", plan_id="basic")


def test_resumption_with_an_invoice_is_over_when_we_have_collected_it(paused, sandbox):
    sandbox.client().v1.subscriptions.resume(paused.stripe_subscription_id)
    sync(paused)
    assert relay_of(paused).status == "delinquent"

    assert collect(record_newest(paused)).paid_by == "card"
    sync_until_in_sync(paused)

    assert relay_of(paused).status == "active"
    assert [each.status for each in all_subscriptions(sandbox)] == ["active"]


def test_events_of_pause_and_resumption_act_at_once(payer, sandbox, clock):
    pause_subscription(sandbox, payer)
    process_events(sandbox, "customer.subscription.paused")
    assert relay_of(payer).status == "delinquent"
    assert SubscriptionSync.objects.get(tenant=payer).is_stale

    clock.move(days=1)
    resume_subscription(sandbox, payer)
    outcomes = process_events(sandbox, "customer.subscription.resumed")
    assert relay_of(payer).status == "active"
    assert outcomes == ["differs from the relays: sync enqueued"]


def test_owed_credit_does_not_let_a_resumed_subscription_be_cancelled(paused, sandbox):
    owe(paused, 100)
    resume_subscription(sandbox, paused)

    sync_until_in_sync(paused)

    assert relay_of(paused).status == "active"
    assert current(sandbox, paused).status == "active"
    assert Credit.objects.get().state == "owed"


def test_pause_that_begins_during_a_sync_cancels_nothing(payer, sandbox, monkeypatch):
    """The relays go off after the subscriptions were listed as active."""
    stripe = Stripe()
    found = stripe.subscriptions.list(customer=str(payer.stripe_customer_id))

    def list_before_the_pause(*args: Any, **kwargs: Any) -> Any:
        pause_subscription(sandbox, payer)
        paused_now = stripe.subscriptions.get(str(payer.stripe_subscription_id))
        record_pauses(tenant_id=payer.pk, subscription=paused_now)
        monkeypatch.undo()
        return found

    monkeypatch.setattr(type(stripe.subscriptions), "list", list_before_the_pause)
    sync(payer, SyncOutcome.STALE)
    sync(payer)

    assert current(sandbox, payer).status == "paused"
    assert relay_of(payer).status == "delinquent"


def test_decrease_while_paused_is_applied_after_the_resumption(
    payer, sandbox, clock, prices
):
    second = add_relay(payer)
    sync(payer)
    pause_subscription(sandbox, payer)
    sync_until_in_sync(payer)

    lifecycle.deactivate_relay(relay_id=second.pk)
    sync(payer)
    items = current(sandbox, payer)["items"].data
    assert [item.quantity for item in items] == [2]

    clock.move(days=1)
    resume_subscription(sandbox, payer)
    sync_until_in_sync(payer)
    items = current(sandbox, payer)["items"].data
    assert [item.quantity for item in items] == [1]
    second.refresh_from_db()
    assert second.status == "inactive"


def test_closed_account_keeps_its_pause_and_ends_after_it(paused, sandbox):
    close_tenant(tenant_id=paused.pk)
    sync(paused)
    assert current(sandbox, paused).status == "paused"

    resume_subscription(sandbox, paused)
    sync_until_in_sync(paused)

    assert [each.status for each in all_subscriptions(sandbox)] == ["canceled"]


def test_paused_subscription_that_staff_cancel_is_not_created_again(paused, sandbox):
    sandbox.client().v1.subscriptions.cancel(paused.stripe_subscription_id)

    sync_until_in_sync(paused)
    review_tenant(tenant_id=paused.pk)

    assert relay_of(paused).status == "inactive"
    assert [each.status for each in all_subscriptions(sandbox)] == ["canceled"]


def test_paused_subscription_that_ends_without_a_reason_leaves_no_hold(paused, sandbox):
    sandbox.client().v1.subscriptions.cancel(paused.stripe_subscription_id)

    def forget_reason(context: Any) -> None:
        with context.update("subscription", paused.stripe_subscription_id) as draft:
            draft["cancellation_details"]["reason"] = None

    sandbox.app.transact(forget_reason)

    sync_until_in_sync(paused)
    review_tenant(tenant_id=paused.pk)
    sync_until_in_sync(paused)

    assert relay_of(paused).status == "active"
    paused.refresh_from_db()
    assert paused.billing_on_hold_since is None


def test_another_paused_subscription_of_the_tenant_is_left_alone(
    payer, sandbox, prices
):
    other = create_subscription_at_stripe(
        sandbox, payer, prices["growth"], collection_method="charge_automatically"
    )
    sandbox.client().v1.subscriptions.pause(other.id)

    sync(payer)

    other = sandbox.client().v1.subscriptions.retrieve(other.id)
    assert (other.status, relay_of(payer).status) == ("paused", "active")


def test_second_subscription_beside_a_paused_one_is_cancelled_and_costs_nothing(
    paused, sandbox, prices
):
    second = create_subscription_at_stripe(sandbox, paused, prices["basic"])

    sync(paused)
    post_collect_and_sync(paused)

    statuses = {each.id: each.status for each in all_subscriptions(sandbox)}
    assert statuses == {paused.stripe_subscription_id: "paused", second.id: "canceled"}
    assert relay_of(paused).status == "delinquent"
    invoices = sandbox.client().v1.invoices.list({"subscription": second.id}).data
    assert sum(each.amount_remaining for each in invoices) == 0
    assert [each.amount for each in sandbox.client().v1.charges.list({}).data] == [500]


def test_paused_subscription_without_details_is_paused(payer, sandbox):
    pause_subscription(sandbox, payer)

    def forget_details(context: Any) -> None:
        with context.update("subscription", payer.stripe_subscription_id) as draft:
            draft.pop("status_details")

    sandbox.app.transact(forget_details)
    sync_until_in_sync(payer)
    since = SubscriptionSync.objects.get(tenant=payer).paused_at
    sync(payer)

    assert since and SubscriptionSync.objects.get(tenant=payer).paused_at == since
    assert relay_of(payer).status == "delinquent"


def test_overdue_tenant_stays_suspended_after_the_resumption(paused, sandbox, clock):
    created_at = timezone.now() - timedelta(days=20)
    InvoiceCollection.objects.create(
        stripe_invoice_id="in_old",
        tenant=paused,
        stripe_customer_id=paused.stripe_customer_id,
        stripe_subscription_id="sub_old",
        currency="usd",
        stripe_status="open",
        amount_remaining_cents=500,
        created_at=created_at,
        finalized_at=created_at,
        suspend_at=timezone.now() - timedelta(days=1),
    )
    resumed = Stripe().subscriptions.get(str(paused.stripe_subscription_id))
    resume_subscription(sandbox, paused)
    resumed = Stripe().subscriptions.get(resumed.id)

    record_pauses(tenant_id=paused.pk, subscription=resumed)

    assert relay_of(paused).status == "delinquent"
    assert titles(paused, "subscription_resumed") == []


# --- a pause of collection


def test_pause_of_collection_is_shown_and_leaves_the_relays_on(payer, sandbox, clock):
    changes: Any = {
        "pause_collection": {"behavior": "void", "resumes_at": sandbox.now() + 86_400}
    }
    api = sandbox.client().v1.subscriptions
    api.update(payer.stripe_subscription_id, changes)
    process_events(sandbox, "customer.subscription.updated")
    row = SubscriptionSync.objects.get(tenant=payer)
    assert (row.collection_pause, row.collection_resumes_at is not None) == (
        "void",
        True,
    )

    sync(payer)
    assert relay_of(payer).status == "active"
    assert current(sandbox, payer).pause_collection.behavior == "void"

    pause_collection(sandbox, payer, "")
    sync(payer)
    assert SubscriptionSync.objects.get(tenant=payer).collection_pause == ""


def credited_cents(sandbox, tenant) -> int:
    customer = sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id)
    return -int(customer.balance)


def leave(tenant) -> None:
    """Switch the only relay off, and do what the workers do."""
    lifecycle.deactivate_relay(relay_id=relay_of(tenant).pk)
    sync_until_in_sync(tenant)
    post_collect_and_sync(tenant)


@pytest.mark.parametrize("behavior", ["mark_uncollectible", "void", "keep_as_draft"])
def test_month_that_a_pause_gave_away_is_not_credited(payer, sandbox, clock, behavior):
    pause_collection(sandbox, payer, behavior)
    clock.move(days=31)
    renewal = collect(record_newest(payer))
    assert renewal.amount_paid_cents == 0
    pause_collection(sandbox, payer, "")
    clock.move(days=5)

    leave(payer)

    assert credited_cents(sandbox, payer) == 0


@pytest.mark.parametrize("behavior", ["mark_uncollectible", "void", "keep_as_draft"])
def test_paid_time_is_credited_although_collection_is_paused(
    payer, sandbox, clock, behavior
):
    clock.move(days=10)
    pause_collection(sandbox, payer, behavior)

    leave(payer)

    assert 320 <= credited_cents(sandbox, payer) <= 350


def test_kept_draft_stays_a_draft_when_its_subscription_ends(payer, sandbox, clock):
    pause_collection(sandbox, payer, "keep_as_draft")
    clock.move(seconds=until_draft(sandbox).total_seconds())
    renewal = collect(record_newest(payer))

    leave(payer)

    assert collect(renewal).hold == "held"
    invoice = sandbox.client().v1.invoices.retrieve(renewal.pk)
    assert invoice.status == "draft"


def test_kept_draft_that_is_released_after_the_end_asks_for_the_served_days_only(
    payer, sandbox, clock
):
    # The card would pay at once.
    sandbox.client().v1.customers.update(
        payer.stripe_customer_id, {"metadata": {"sandbox_outcome": "card_declined"}}
    )
    pause_collection(sandbox, payer, "keep_as_draft")
    clock.move(days=40)
    renewal = collect(record_newest(payer))
    assert renewal.hold == "held"
    leave(payer)
    clock.move(days=3)

    sandbox.client().v1.invoices.finalize_invoice(renewal.pk)
    assert not collect(renewal).card_attempts.exists()
    sync(payer)
    renewal = collect(renewal)

    assert renewal.period_start and renewal.period_end
    period = (renewal.period_end - renewal.period_start).total_seconds()
    served = (clock_at_end(payer) - renewal.period_start).total_seconds()
    assert abs(renewal.amount_remaining_cents - 500 * served / period) <= 1


def clock_at_end(tenant):
    """Return when the tenant's only subscription ended."""
    write = tenant.stripe_writes.get(kind="subscription.cancel")
    return to_datetime(ended_at(Stripe().subscriptions.get(write.subject)))
