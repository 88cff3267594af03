"""Tenants owe for served time, once: whatever ends a subscription, and when."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.models import Credit, StripeWrite, SubscriptionSync
from billing.services.credits.posting import post_credits
from billing.services.dunning.review import review_tenant
from billing.services.stripe_writes import writes
from billing.services.subscriptions import cancel, unused_time
from billing.services.subscriptions.ended import handle_subscription_ended
from billing.services.subscriptions.sync import SyncOutcome, sync_tenant
from billing.services.sync.queue import mark_stale
from billing.tests.support.subscriptions import (
    add_relay,
    all_subscriptions,
    finalize_drafts,
    pay_all_invoices,
    post_collect_and_sync,
    rewrite_subscription,
    sync,
    sync_until_in_sync,
)
from billing.tests.support.workers import Killed
from relays.exceptions import PaymentOverdue
from relays.services import lifecycle
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture
def tenant(prices):
    return TenantFactory()


@pytest.fixture
def relay(tenant):
    """A relay on a subscription whose first invoice is a draft."""
    relay = add_relay(tenant)
    sync(tenant)
    return relay


def invoices(sandbox):
    """All invoices, oldest first."""
    return sandbox.client().v1.invoices.list({"limit": 100}).data[::-1]


def switch_off(tenant, *relays):
    for relay in relays:
        lifecycle.deactivate_relay(relay_id=relay.pk)
    sync(tenant)


def switch_on(tenant, *relays):
    post_collect_and_sync(tenant)
    for relay in relays:
        lifecycle.activate_relay(relay_id=relay.pk)
    sync(tenant)


def suspend(tenant):
    """Let the grace of what is unpaid end: what is billable goes off."""
    post_collect_and_sync(tenant)
    tenant.collections.unpaid().update(suspend_at=timezone.now())
    review_tenant(tenant_id=tenant.pk)
    sync(tenant)


def balance(sandbox, tenant):
    """What the customer owes beyond its invoices; credit is negative."""
    return sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id).balance


def share(sandbox, cents, seconds):
    """What so much a month costs for some seconds of the first month."""
    line = invoices(sandbox)[0].lines.data[-1]
    return cents * seconds / (line.period.end - line.period.start)


# --- off, not paid


def test_off_after_a_week_costs_a_week(sandbox, tenant, relay):
    sandbox.advance(7 * DAY)

    suspend(tenant)
    assert post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    assert invoice.status == "open"
    assert invoice.amount_remaining == round(share(sandbox, 500, 7 * DAY))
    assert balance(sandbox, tenant) == 0


def test_a_draft_is_finalized_and_reduced(sandbox, tenant, relay):
    (invoice,) = invoices(sandbox)
    assert invoice.status == "draft"
    sandbox.client().v1.invoices.update(invoice.id, {"auto_advance": False})
    sandbox.advance(15 * DAY)

    switch_off(tenant, relay)
    post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    assert invoice.amount_remaining == round(share(sandbox, 500, 15 * DAY))


@pytest.mark.parametrize("paid", [False, True])
def test_off_and_on_again_the_same_day_pays_the_month_once(
    sandbox, tenant, relay, paid
):
    """An hour costs a cent, which is too little to be charged: it is carried over."""
    if paid:
        pay_all_invoices(sandbox)
    sandbox.advance(2 * HOUR)

    switch_off(tenant, relay)
    switch_on(tenant, relay)
    finalize_drafts(sandbox)

    first, *_, second = invoices(sandbox)
    assert first.status == "paid"
    assert second.total == 500
    # A cent for two hours, then a whole month from now on.
    asked = sum(i.amount_paid for i in (first,) if paid) + second.amount_remaining
    assert asked + balance(sandbox, tenant) == 501
    assert not Credit.objects.owed().exists()


def test_off_and_on_many_times_leaves_no_invoice_that_nobody_can_pay(
    sandbox, tenant, relay
):
    for _ in range(3):
        sandbox.advance(2 * HOUR)
        switch_off(tenant, relay)
        switch_on(tenant, relay)
    finalize_drafts(sandbox)

    *earlier, last = invoices(sandbox)
    assert [invoice.status for invoice in earlier] == ["paid"] * 3
    assert last.amount_remaining == 503


def test_an_upgrade_that_was_not_billed_yet_is_paid_for_as_long_as_it_served(
    sandbox, tenant, relay
):
    sandbox.advance(3 * DAY)
    lifecycle.change_plan(relay_id=relay.pk, plan_id="growth")
    sync(tenant)
    sandbox.advance(2 * DAY)

    suspend(tenant)
    post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    served = share(sandbox, 500, 3 * DAY) + share(sandbox, 2500, 2 * DAY)
    assert invoice.amount_remaining == pytest.approx(served, abs=1)


def test_one_of_two_off_on_the_third_day_both_on_the_seventh(sandbox, tenant, relay):
    other = add_relay(tenant)
    sync(tenant)
    sandbox.advance(3 * DAY)
    switch_off(tenant, other)
    sandbox.advance(4 * DAY)

    suspend(tenant)
    post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    served = share(sandbox, 500, 7 * DAY) + share(sandbox, 500, 3 * DAY)
    assert invoice.amount_remaining == pytest.approx(served, abs=1)


def test_what_was_switched_off_and_on_again_is_not_free(sandbox, tenant):
    """The first invoice, of two relays, is still to be paid."""
    relay, _ = add_relay(tenant), add_relay(tenant)
    sync(tenant)
    sandbox.advance(1 * DAY)
    switch_off(tenant, relay)
    switch_on(tenant, relay)
    sandbox.advance(6 * DAY)

    suspend(tenant)
    post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    served = share(sandbox, 1000, 7 * DAY)
    assert invoice.amount_remaining == pytest.approx(served, abs=1)


def test_a_decrease_before_the_invoice_is_paid_is_credited_with_the_next(
    sandbox, tenant
):
    relay, _ = add_relay(tenant), add_relay(tenant)
    sync(tenant)
    sandbox.advance(3 * DAY)
    switch_off(tenant, relay)
    pay_all_invoices(sandbox)

    sandbox.advance(30 * DAY)

    first, second = invoices(sandbox)
    assert (first.amount_paid, second.status) == (1000, "open")
    unused = 500 - share(sandbox, 500, 3 * DAY)
    assert second.amount_remaining == pytest.approx(500 - unused, abs=1)


# --- off, paid


def test_what_was_paid_goes_to_the_balance_without_a_credit_of_ours(
    sandbox, tenant, relay
):
    pay_all_invoices(sandbox)
    sandbox.advance(7 * DAY)

    switch_off(tenant, relay)

    left = 500 - round(share(sandbox, 500, 7 * DAY))
    assert balance(sandbox, tenant) == pytest.approx(-left, abs=1)
    assert not Credit.objects.exists()


def test_paid_between_the_end_and_the_note(sandbox, tenant, relay):
    sandbox.advance(7 * DAY)
    sandbox.fault("status", path="credit_notes", status=429, times=None)
    suspend(tenant)
    sandbox.clear_faults()
    (invoice,) = invoices(sandbox)
    assert invoice.amount_remaining == 500
    pay_all_invoices(sandbox)

    post_credits(tenant_id=tenant.pk)

    left = 500 - round(share(sandbox, 500, 7 * DAY))
    assert balance(sandbox, tenant) == -left
    credit = Credit.objects.get()
    assert (credit.note_cents, credit.balance_cents) == (0, left)


def test_the_current_month_was_paid_but_an_older_one_never(sandbox, tenant, relay):
    finalize_drafts(sandbox)
    (old,) = invoices(sandbox)
    sandbox.client().v1.invoices.mark_uncollectible(old.id)
    sandbox.advance(32 * DAY)
    pay_all_invoices(sandbox)
    current = invoices(sandbox)[1]
    start = current.lines.data[0].period.start

    switch_off(tenant, relay)
    post_credits(tenant_id=tenant.pk)

    (ended,) = all_subscriptions(sandbox)
    period = current.lines.data[0].period.end - start
    unserved_cents = 500 - 500 * (ended.ended_at - start) / period
    assert balance(sandbox, tenant) == -round(unserved_cents)
    assert Credit.objects.get().collection_id == current.id


def test_nothing_is_given_back_of_what_was_written_off(sandbox, tenant, relay):
    finalize_drafts(sandbox)
    (invoice,) = invoices(sandbox)
    sandbox.client().v1.invoices.mark_uncollectible(invoice.id)

    suspend(tenant)
    post_credits(tenant_id=tenant.pk)

    assert not Credit.objects.exists()
    assert balance(sandbox, tenant) == 0


def test_of_what_was_written_off_in_part_the_paid_part_is_given_back(sandbox, tenant):
    add_relay(tenant)
    customer = Stripe().create_customer(
        {"email": "a@example.com", "metadata": {"tenant_pubkey": tenant.pk}}, "key"
    )
    Tenant.objects.filter(pk=tenant.pk).update(stripe_customer_id=customer.id)
    Stripe().create_balance_transaction(
        customer.id, {"amount": -200, "currency": "usd"}, "key-2"
    )
    sync(tenant)
    finalize_drafts(sandbox)
    (invoice,) = invoices(sandbox)
    assert invoice.amount_remaining == 300
    sandbox.client().v1.invoices.mark_uncollectible(invoice.id)

    suspend(tenant)
    post_credits(tenant_id=tenant.pk)

    assert balance(sandbox, tenant) == -200


def test_written_off_between_the_end_and_the_note(sandbox, tenant, relay):
    sandbox.fault("status", path="credit_notes", status=429, times=None)
    suspend(tenant)
    sandbox.clear_faults()
    (invoice,) = invoices(sandbox)
    sandbox.client().v1.invoices.mark_uncollectible(invoice.id)

    post_credits(tenant_id=tenant.pk)

    assert balance(sandbox, tenant) == 0
    assert Credit.objects.get().state == "posted"


# --- a person ends it at Stripe


@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"prorate": True},
        {"prorate": True, "invoice_now": True},
        {"invoice_now": True},
    ],
)
def test_a_person_cancels(sandbox, tenant, relay, terms, paid):
    if paid:
        pay_all_invoices(sandbox)
    sandbox.advance(7 * DAY)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id, terms)

    sync_until_in_sync(tenant)
    assert post_credits(tenant_id=tenant.pk)

    assert asked(sandbox, tenant) == pytest.approx(share(sandbox, 500, 7 * DAY), abs=1)
    open_cents = sum(i.amount_remaining for i in invoices(sandbox))
    if not paid and "prorate" not in terms:
        assert open_cents == round(share(sandbox, 500, 7 * DAY))


def asked(sandbox, tenant):
    """What the tenant pays in the end: invoices, balance, and what is to be billed."""
    client = sandbox.client()
    params = {"customer": tenant.stripe_customer_id, "pending": True}
    pending = client.v1.invoice_items.list(params).data
    return (
        sum(i.amount_paid + i.amount_remaining for i in invoices(sandbox))
        + balance(sandbox, tenant)
        + sum(item.amount for item in pending)
    )


@pytest.mark.parametrize("terms", [{"prorate": True}, {"invoice_now": True}])
def test_a_person_cancels_with_an_upgrade_pending(sandbox, tenant, relay, terms):
    sandbox.advance(3 * DAY)
    lifecycle.change_plan(relay_id=relay.pk, plan_id="growth")
    sync(tenant)
    sandbox.advance(2 * DAY)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id, terms)

    sync_until_in_sync(tenant)
    post_credits(tenant_id=tenant.pk)

    served = share(sandbox, 500, 3 * DAY) + share(sandbox, 2500, 2 * DAY)
    assert asked(sandbox, tenant) == pytest.approx(served, abs=2)


def test_at_the_end_of_a_period_nothing_is_left_to_give_back(sandbox, tenant, relay):
    client = sandbox.client()
    client.v1.subscriptions.update(
        tenant.stripe_subscription_id, {"cancel_at_period_end": True}
    )
    sandbox.advance(32 * DAY)

    sync_until_in_sync(tenant)

    assert not Credit.objects.exists()


def test_ended_by_stripe_for_non_payment(sandbox, tenant, relay):
    sandbox.advance(7 * DAY)
    id = tenant.stripe_subscription_id
    ended = sandbox.client().v1.subscriptions.cancel(id)
    details = {**ended.cancellation_details.to_dict(), "reason": "payment_failed"}
    rewrite_subscription(sandbox, id, cancellation_details=details)

    sync_until_in_sync(tenant)
    post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    assert invoice.amount_remaining == round(share(sandbox, 500, 7 * DAY))


def test_an_end_that_an_event_told_of_is_settled_by_the_next_sync(
    sandbox, tenant, relay
):
    sandbox.advance(7 * DAY)
    subscription_id = tenant.stripe_subscription_id
    sandbox.client().v1.subscriptions.cancel(subscription_id)
    found = Stripe().get_subscription(subscription_id)
    for _ in range(2):
        handle_subscription_ended(tenant_id=tenant.pk, subscription=found)
    sandbox.advance(1 * DAY)

    sync(tenant)
    sync(tenant)
    post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    assert invoice.amount_remaining == round(share(sandbox, 500, 7 * DAY))


def test_a_draft_that_stripe_will_not_finalize_stops_nobody(
    sandbox, tenant, relay, caplog
):
    sandbox.fault("status", path="/finalize", status=400, times=None)
    switch_off(tenant, relay)
    assert "final_invoice_refused" in caplog.text
    credit = Credit.objects.get()

    switch_on(tenant, relay)

    assert len(all_subscriptions(sandbox)) == 2
    credit.refresh_from_db()
    assert (credit.state, credit.last_error_code) == ("owed", "credit-waits")
    sandbox.clear_faults()
    sandbox.client().v1.invoices.finalize_invoice(credit.collection_id)
    assert post_credits(tenant_id=tenant.pk)
    assert invoices(sandbox)[0].status == "paid"


# --- customers that are deleted


@pytest.mark.parametrize("paid", [False, True])
def test_a_deleted_customer_takes_no_unserved_time_along(sandbox, tenant, relay, paid):
    if paid:
        pay_all_invoices(sandbox)
    old = tenant.stripe_customer_id
    sandbox.advance(7 * DAY)
    sandbox.client().v1.customers.delete(old)

    sync(tenant)
    post_credits(tenant_id=tenant.pk)

    assert tenant.stripe_customer_id != old
    left = 500 - round(share(sandbox, 500, 7 * DAY))
    if paid:
        assert balance(sandbox, tenant) == -left
    else:
        assert invoices(sandbox)[0].amount_remaining == 500 - left


# --- crashes


@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Stripe, "cancel_subscription"),
        (Stripe, "finalize_invoice"),
        (unused_time, "list_billed_invoices"),
        (unused_time, "credit_unused_time"),
        (writes, "mark_succeeded"),
    ],
)
def test_killed_while_cancelling(
    sandbox, tenant, relay, monkeypatch, owner, name, paid
):
    if paid:
        pay_all_invoices(sandbox)
    else:
        (draft,) = invoices(sandbox)
        sandbox.client().v1.invoices.update(draft.id, {"auto_advance": False})
    sandbox.advance(7 * DAY)
    lifecycle.deactivate_relay(relay_id=relay.pk)
    real = getattr(owner, name)

    def die(*args, **kwargs):
        real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(owner, name, die)
    mark_stale(tenant_id=tenant.pk)
    with pytest.raises(Killed):
        sync_tenant(tenant_id=tenant.pk)
    monkeypatch.setattr(owner, name, real)
    sandbox.advance(1 * DAY)

    # Nobody's relay is switched by what was ours.
    with time_machine.travel(timezone.now() + timedelta(minutes=6)):
        sync(tenant)
        post_credits(tenant_id=tenant.pk)

    assert asked(sandbox, tenant) == pytest.approx(share(sandbox, 500, 7 * DAY), abs=1)
    assert not StripeWrite.objects.pending().exists()
    if paid:
        assert not Credit.objects.exists()
    else:
        assert Credit.objects.get().collection_id == invoices(sandbox)[0].id


def test_cancelled_on_terms_that_changed_before_the_request_arrived(
    sandbox, tenant, relay, monkeypatch
):
    """Sent while something was owed, it arrives when that has been paid."""
    sandbox.advance(7 * DAY)
    lifecycle.deactivate_relay(relay_id=relay.pk)
    sandbox.fault("reset", method="DELETE", times=3)
    sync(tenant, SyncOutcome.FAILED)
    sandbox.clear_faults()
    pay_all_invoices(sandbox)
    real = Stripe.cancel_subscription

    def late(self, subscription_id, **terms):
        real(self, subscription_id, prorate=False, invoice_now=False)
        real(self, subscription_id, **terms)

    monkeypatch.setattr(Stripe, "cancel_subscription", late)
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        sync(tenant)
    post_credits(tenant_id=tenant.pk)

    left = 500 - round(share(sandbox, 500, 7 * DAY))
    assert balance(sandbox, tenant) == -left


def test_nothing_new_before_the_credit_is_posted(sandbox, tenant, relay):
    pay_all_invoices(sandbox)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id)
    sandbox.fault("status", path="balance_transactions", status=500, times=None)
    sync_until_in_sync(tenant)
    lifecycle.activate_relay(relay_id=relay.pk)

    row = sync(tenant, SyncOutcome.FAILED)
    assert row.last_error_code == "credit-not-posted"
    assert len(all_subscriptions(sandbox)) == 1

    sandbox.clear_faults()
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        sync(tenant)
    assert len(all_subscriptions(sandbox)) == 2
    assert not SubscriptionSync.objects.get(pk=tenant.pk).is_stale


def test_what_is_owed_for_the_last_one_comes_before_the_next(sandbox, tenant, relay):
    sandbox.advance(7 * DAY)
    switch_off(tenant, relay)
    post_collect_and_sync(tenant)
    with pytest.raises(PaymentOverdue):
        lifecycle.activate_relay(relay_id=relay.pk)

    pay_all_invoices(sandbox)
    post_collect_and_sync(tenant)
    lifecycle.activate_relay(relay_id=relay.pk)
    sync(tenant)

    assert len(all_subscriptions(sandbox)) == 2


def test_an_end_that_two_workers_settle_is_credited_once(
    sandbox, tenant, relay, monkeypatch
):
    """They read differently what the open invoice bears, so what the paid one must."""
    pay_all_invoices(sandbox)
    sandbox.advance(31 * DAY)
    finalize_drafts(sandbox)
    api = sandbox.client().v1
    (renewal,) = api.invoices.list({"status": "open"}).data
    note = api.credit_notes.create({"invoice": renewal.id, "amount": 450})
    real = cancel._unused_time

    def compute_and_be_overtaken(*args):
        found = real(*args)
        monkeypatch.setattr(cancel, "_unused_time", real)
        api.credit_notes.void_credit_note(note.id)
        cancel.resume_cancellations(Stripe(), tenant.pk)
        return found

    monkeypatch.setattr(cancel, "_unused_time", compute_and_be_overtaken)
    lifecycle.deactivate_relay(relay_id=relay.pk)
    sync(tenant)

    assert sum(credit.amount_cents for credit in Credit.objects.all()) <= 500
    assert Credit.objects.get().collection_id == renewal.id
