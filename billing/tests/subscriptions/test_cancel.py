"""Tenants owe for served time, once, however and whenever a subscription ends."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.clients.stripe.invoices import Invoices
from billing.clients.stripe.subscriptions import Subscriptions
from billing.models import Credit, StripeWrite, SubscriptionSync
from billing.services.collection.collect import collect_invoice
from billing.services.credits.posting import post_credits
from billing.services.credits.recredit import request_recredit
from billing.services.dunning.suspension import review_tenant
from billing.services.stripe_writes import writes
from billing.services.subscriptions import cancel, end_credits, unused_time
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
from relays.exceptions import BillingOnHold, PaymentOverdue
from relays.models import Relay
from relays.services import lifecycle
from tenants.models import Tenant

pytestmark = pytest.mark.django_db

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture(scope="module")
def _saved_relay(_saved_tenant, django_db_blocker):
    with django_db_blocker.unblock():
        return _saved_tenant.then(lambda: create_subscription(Tenant.objects.get()))


def create_subscription(tenant):
    relay = add_relay(tenant)
    sync(tenant)
    return relay.pk


@pytest.fixture
def tenant(prices, _saved_tenant):
    return Tenant.objects.get(pk=_saved_tenant.restore())


@pytest.fixture
def relay(tenant, _saved_relay):
    """A relay on a subscription whose first invoice is a draft."""
    relay = Relay.objects.get(pk=_saved_relay.restore())
    tenant.refresh_from_db()
    return relay


def invoices(sandbox):
    """Return all invoices, oldest first."""
    return sandbox.client().v1.invoices.list({"limit": 100}).data[::-1]


def deactivate_and_sync(tenant, *relays):
    for relay in relays:
        lifecycle.deactivate_relay(relay_id=relay.pk)
    sync(tenant)


def activate_and_sync(tenant, *relays):
    post_collect_and_sync(tenant)
    for relay in relays:
        lifecycle.activate_relay(relay_id=relay.pk)
    sync(tenant)


def suspend(tenant):
    """End the grace period of unpaid invoices, which suspends billable relays."""
    post_collect_and_sync(tenant)
    tenant.collections.unpaid().update(suspend_at=timezone.now())
    review_tenant(tenant_id=tenant.pk)
    sync(tenant)


def balance(sandbox, tenant):
    """Return the customer's balance; credit is negative."""
    return sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id).balance


def share(sandbox, cents, seconds):
    """Return the price of some seconds of the first month, at `cents` a month."""
    line = invoices(sandbox)[0].lines.data[-1]
    return cents * seconds / (line.period.end - line.period.start)


# --- not paid


def test_one_week_is_owed_when_relays_are_suspended_after_a_week(
    sandbox, tenant, relay
):
    sandbox.advance(7 * DAY)

    suspend(tenant)
    assert post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    assert invoice.status == "open"
    assert invoice.amount_remaining == round(share(sandbox, 500, 7 * DAY))
    assert balance(sandbox, tenant) == 0


def test_draft_is_finalized_and_reduced_on_cancellation(sandbox, tenant, relay):
    (invoice,) = invoices(sandbox)
    assert invoice.status == "draft"
    Stripe().invoices.stop_auto_advance(invoice.id)
    sandbox.advance(15 * DAY)

    deactivate_and_sync(tenant, relay)
    post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    assert invoice.amount_remaining == round(share(sandbox, 500, 15 * DAY))


@pytest.mark.parametrize("paid", [False, True])
def test_month_is_paid_once_when_relay_is_off_and_on_the_same_day(
    sandbox, tenant, relay, paid
):
    """Two hours cost a cent, less than the minimum charge: it is carried over."""
    if paid:
        pay_all_invoices(sandbox)
    sandbox.advance(2 * HOUR)

    deactivate_and_sync(tenant, relay)
    activate_and_sync(tenant, relay)
    finalize_drafts(sandbox)

    first, *_, second = invoices(sandbox)
    assert first.status == "paid"
    assert second.total == 500
    # A cent for two hours, then a whole month.
    paid_and_open = (
        sum(i.amount_paid for i in (first,) if paid) + second.amount_remaining
    )
    assert paid_and_open + balance(sandbox, tenant) == 501
    assert not Credit.objects.owed().exists()


def test_no_unpayable_invoice_when_relay_is_off_and_on_many_times(
    sandbox, tenant, relay
):
    for _ in range(3):
        sandbox.advance(2 * HOUR)
        deactivate_and_sync(tenant, relay)
        activate_and_sync(tenant, relay)
    finalize_drafts(sandbox)

    *earlier, last = invoices(sandbox)
    assert [invoice.status for invoice in earlier] == ["paid"] * 3
    assert last.amount_remaining == 503


def test_used_time_of_an_unbilled_upgrade_is_owed_after_suspension(
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


def test_each_relay_is_owed_until_its_own_end(sandbox, tenant, relay):
    other = add_relay(tenant)
    sync(tenant)
    sandbox.advance(3 * DAY)
    deactivate_and_sync(tenant, other)
    sandbox.advance(4 * DAY)

    suspend(tenant)
    post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    served = share(sandbox, 500, 7 * DAY) + share(sandbox, 500, 3 * DAY)
    assert invoice.amount_remaining == pytest.approx(served, abs=1)


def test_relay_switched_off_and_on_is_not_free_while_invoice_is_open(sandbox, tenant):
    """The first invoice, of two relays, is unpaid."""
    relay, _ = add_relay(tenant), add_relay(tenant)
    sync(tenant)
    sandbox.advance(1 * DAY)
    deactivate_and_sync(tenant, relay)
    activate_and_sync(tenant, relay)
    sandbox.advance(6 * DAY)

    suspend(tenant)
    post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    served = share(sandbox, 1000, 7 * DAY)
    assert invoice.amount_remaining == pytest.approx(served, abs=1)


def test_decrease_before_payment_is_credited_on_next_invoice(sandbox, tenant):
    relay, _ = add_relay(tenant), add_relay(tenant)
    sync(tenant)
    sandbox.advance(4 * DAY)
    deactivate_and_sync(tenant, relay)
    pay_all_invoices(sandbox)

    sandbox.advance(30 * DAY)

    first, second = invoices(sandbox)
    assert (first.amount_paid, second.status) == (1000, "open")
    # Four days, as three of a long month cost less than the minimum charge.
    unused = 500 - share(sandbox, 500, 4 * DAY)
    assert second.amount_remaining == pytest.approx(500 - unused, abs=1)


# --- paid


def test_stripe_credits_unused_time_when_all_is_paid(sandbox, tenant, relay):
    pay_all_invoices(sandbox)
    sandbox.advance(7 * DAY)

    deactivate_and_sync(tenant, relay)

    left = 500 - round(share(sandbox, 500, 7 * DAY))
    assert balance(sandbox, tenant) == pytest.approx(-left, abs=1)
    assert not Credit.objects.exists()


def test_credit_goes_to_balance_when_paid_before_the_credit_note(
    sandbox, tenant, relay
):
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


def test_paid_month_is_credited_while_an_older_one_is_uncollectible(
    sandbox, tenant, relay
):
    finalize_drafts(sandbox)
    (old,) = invoices(sandbox)
    sandbox.client().v1.invoices.mark_uncollectible(old.id)
    sandbox.advance(32 * DAY)
    pay_all_invoices(sandbox)
    current = invoices(sandbox)[1]
    start = current.lines.data[0].period.start

    deactivate_and_sync(tenant, relay)
    post_credits(tenant_id=tenant.pk)

    (ended,) = all_subscriptions(sandbox)
    period = current.lines.data[0].period.end - start
    unused_cents = 500 - 500 * (ended.ended_at - start) / period
    assert balance(sandbox, tenant) == -round(unused_cents)
    assert Credit.objects.get().collection_id == current.id


# Sources disagree whether Stripe makes a credit note on an uncollectible invoice.
either_way = pytest.mark.parametrize("notes", ["refused", "allowed"])


@either_way
def test_unused_time_of_an_uncollectible_invoice_is_credited_once(
    sandbox, tenant, relay, notes
):
    sandbox.settings(credit_uncollectible=notes)
    finalize_drafts(sandbox)
    (invoice,) = invoices(sandbox)
    sandbox.client().v1.invoices.mark_uncollectible(invoice.id)
    sandbox.advance(7 * DAY)

    suspend(tenant)
    assert post_credits(tenant_id=tenant.pk)

    served = round(share(sandbox, 500, 7 * DAY))
    credit = Credit.objects.get()
    assert credit.amount_cents == 500 - served
    (invoice,) = invoices(sandbox)
    if notes == "allowed":
        assert (credit.state, invoice.amount_remaining) == ("posted", served)
        return
    assert (credit.state, credit.last_error_code) == ("owed", "credit-waits")
    sandbox.client().v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
    assert post_credits(tenant_id=tenant.pk)
    assert balance(sandbox, tenant) == served - 500


def test_refused_note_on_an_uncollectible_invoice_is_tried_once(sandbox, tenant, relay):
    finalize_drafts(sandbox)
    (invoice,) = invoices(sandbox)
    sandbox.client().v1.invoices.mark_uncollectible(invoice.id)
    suspend(tenant)

    for _ in range(3):
        post_credits(tenant_id=tenant.pk)

    kind = StripeWrite.Kind.CREATE_CREDIT_NOTE
    assert StripeWrite.objects.get(kind=kind).state == "failed"


def test_relays_are_reactivated_while_credit_waits_for_an_uncollectible_invoice(
    sandbox, tenant, relay
):
    finalize_drafts(sandbox)
    (invoice,) = invoices(sandbox)
    sandbox.client().v1.invoices.mark_uncollectible(invoice.id)
    suspend(tenant)
    assert Credit.objects.owed().exists()
    relay.refresh_from_db()
    assert relay.status == "delinquent"

    tenant.collections.update(suspend_at=timezone.now() + timedelta(days=1))
    review_tenant(tenant_id=tenant.pk)

    relay.refresh_from_db()
    assert relay.status == "active"


@either_way
def test_paid_part_of_an_uncollectible_invoice_is_credited(sandbox, tenant, notes):
    sandbox.settings(credit_uncollectible=notes)
    relay = add_relay(tenant)
    customer = Stripe().customers.create(
        {"email": "a@example.com", "metadata": {"tenant_pubkey": tenant.pk}}, "key"
    )
    Tenant.objects.filter(pk=tenant.pk).update(stripe_customer_id=customer.id)
    Stripe().customer_balance_transactions.create(
        customer.id, {"amount": -200, "currency": "usd"}, "key-2"
    )
    sync(tenant)
    finalize_drafts(sandbox)
    (invoice,) = invoices(sandbox)
    assert invoice.amount_remaining == 300
    sandbox.client().v1.invoices.mark_uncollectible(invoice.id)

    deactivate_and_sync(tenant, relay)
    pay_uncollectible = notes == "refused"
    if pay_uncollectible:
        sandbox.client().v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
    post_credits(tenant_id=tenant.pk)

    assert balance(sandbox, tenant) == (-500 if pay_uncollectible else -200)


@either_way
def test_nothing_is_left_when_written_off_before_the_credit_note(
    sandbox, tenant, relay, notes
):
    sandbox.settings(credit_uncollectible=notes)
    sandbox.fault("status", path="credit_notes", status=429, times=None)
    suspend(tenant)
    sandbox.clear_faults()
    (invoice,) = invoices(sandbox)
    sandbox.client().v1.invoices.mark_uncollectible(invoice.id)

    post_credits(tenant_id=tenant.pk)

    assert balance(sandbox, tenant) == 0
    state = "posted" if notes == "allowed" else "owed"
    assert Credit.objects.get().state == state


# --- ended at Stripe


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
def test_served_time_is_owed_when_a_person_cancels_at_stripe(
    sandbox, tenant, relay, terms, paid
):
    if paid:
        pay_all_invoices(sandbox)
    sandbox.advance(7 * DAY)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id, terms)

    sync_until_in_sync(tenant)
    assert post_credits(tenant_id=tenant.pk)

    assert total_owed(sandbox, tenant) == pytest.approx(
        share(sandbox, 500, 7 * DAY), abs=1
    )
    open_cents = sum(i.amount_remaining for i in invoices(sandbox))
    served = 0 if paid else round(share(sandbox, 500, 7 * DAY))
    assert open_cents == pytest.approx(served, abs=1)


@pytest.mark.parametrize("terms", [{"prorate": True}, {}])
def test_deleted_prorations_are_known_after_a_crash(
    sandbox, tenant, relay, terms, monkeypatch
):
    sandbox.settings(canceled_prorations="kept")
    sandbox.advance(3 * DAY)
    lifecycle.change_plan(relay_id=relay.pk, plan_id="growth")
    sync(tenant)
    sandbox.advance(2 * DAY)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id, terms)

    def die(*args):
        raise RuntimeError

    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(end_credits, "credit_end", die)
        sync(tenant)
    with time_machine.travel(timezone.now() + timedelta(minutes=10)):
        sync_until_in_sync(tenant)
    assert post_credits(tenant_id=tenant.pk)

    served = share(sandbox, 500, 3 * DAY) + share(sandbox, 2500, 2 * DAY)
    first, *_ = invoices(sandbox)
    assert first.amount_remaining == pytest.approx(served, abs=2)


def test_credit_shifted_to_the_unpaid_invoice_is_shifted_once(sandbox, tenant, relay):
    """The tenant was asked for the whole month, with the rest on the balance."""
    sandbox.advance(7 * DAY)
    subscription_id = tenant.stripe_subscription_id
    terms = {"prorate": True, "invoice_now": True}
    sandbox.client().v1.subscriptions.cancel(subscription_id, terms)
    lifecycle.deactivate_relay(relay_id=relay.pk)

    for _ in range(3):
        sync_until_in_sync(tenant)
        assert post_credits(tenant_id=tenant.pk)
        request_recredit(tenant_id=tenant.pk, subscription_id=subscription_id)

    served = round(share(sandbox, 500, 7 * DAY))
    assert invoices(sandbox)[0].amount_remaining == served
    assert balance(sandbox, tenant) == pytest.approx(0, abs=1)
    assert Credit.objects.count() == 2


def total_owed(sandbox, tenant):
    """Return the tenant's total: invoices, balance and pending items."""
    client = sandbox.client()
    params = {"customer": tenant.stripe_customer_id, "pending": True}
    pending = client.v1.invoice_items.list(params).data
    return (
        sum(i.amount_paid + i.amount_remaining for i in invoices(sandbox))
        + balance(sandbox, tenant)
        + sum(item.amount for item in pending)
    )


@pytest.mark.parametrize("terms", [{"prorate": True}, {"invoice_now": True}])
def test_upgrade_is_owed_when_a_person_cancels_before_it_is_billed(
    sandbox, tenant, relay, terms
):
    sandbox.advance(3 * DAY)
    lifecycle.change_plan(relay_id=relay.pk, plan_id="growth")
    sync(tenant)
    sandbox.advance(2 * DAY)
    sandbox.client().v1.subscriptions.cancel(tenant.stripe_subscription_id, terms)

    sync_until_in_sync(tenant)
    post_credits(tenant_id=tenant.pk)

    served = share(sandbox, 500, 3 * DAY) + share(sandbox, 2500, 2 * DAY)
    assert total_owed(sandbox, tenant) == pytest.approx(served, abs=2)


def test_no_credit_when_subscription_ends_with_its_period(sandbox, tenant, relay):
    client = sandbox.client()
    client.v1.subscriptions.update(
        tenant.stripe_subscription_id, {"cancel_at_period_end": True}
    )
    sandbox.advance(32 * DAY)

    sync_until_in_sync(tenant)

    assert not Credit.objects.exists()


def test_invoice_is_reduced_when_stripe_ends_the_subscription(sandbox, tenant, relay):
    sandbox.advance(7 * DAY)
    id = tenant.stripe_subscription_id
    ended = sandbox.client().v1.subscriptions.cancel(id)
    details = {**ended.cancellation_details.to_dict(), "reason": "payment_failed"}
    rewrite_subscription(sandbox, id, cancellation_details=details)

    sync_until_in_sync(tenant)
    post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    assert invoice.amount_remaining == round(share(sandbox, 500, 7 * DAY))


def test_end_reported_twice_by_events_is_credited_once_by_next_sync(
    sandbox, tenant, relay
):
    sandbox.advance(7 * DAY)
    subscription_id = tenant.stripe_subscription_id
    sandbox.client().v1.subscriptions.cancel(subscription_id)
    ended = Stripe().subscriptions.get(subscription_id)
    for _ in range(2):
        handle_subscription_ended(tenant_id=tenant.pk, subscription=ended)
    sandbox.advance(1 * DAY)

    sync(tenant)
    sync(tenant)
    post_credits(tenant_id=tenant.pk)

    (invoice,) = invoices(sandbox)
    assert invoice.amount_remaining == round(share(sandbox, 500, 7 * DAY))


def test_new_subscription_waits_for_a_draft_that_cannot_be_finalized(
    sandbox, tenant, relay, caplog
):
    sandbox.fault("status", path="/finalize", status=400, times=None)
    deactivate_and_sync(tenant, relay)
    assert "finalization_refused" in caplog.text
    credit = Credit.objects.get()

    with pytest.raises(BillingOnHold):
        lifecycle.activate_relay(relay_id=relay.pk)

    sandbox.clear_faults()
    collect_invoice(invoice_id=str(credit.collection_id))
    assert post_credits(tenant_id=tenant.pk)
    assert invoices(sandbox)[0].status == "paid"
    activate_and_sync(tenant, relay)
    assert len(all_subscriptions(sandbox)) == 2


# --- deleted customers


@pytest.mark.parametrize("paid", [False, True])
def test_unused_time_is_credited_when_customer_was_deleted(
    sandbox, tenant, relay, paid
):
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
        (Subscriptions, "cancel"),
        (Invoices, "finalize"),
        (unused_time, "list_billed_invoices"),
        (end_credits, "credit_end"),
        (writes, "mark_succeeded"),
    ],
)
def test_unused_time_is_credited_once_when_killed_while_cancelling(
    sandbox, tenant, relay, monkeypatch, owner, name, paid
):
    if paid:
        pay_all_invoices(sandbox)
    else:
        (draft,) = invoices(sandbox)
        Stripe().invoices.stop_auto_advance(draft.id)
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

    with time_machine.travel(timezone.now() + timedelta(minutes=6)):
        sync(tenant)
        post_credits(tenant_id=tenant.pk)

    assert total_owed(sandbox, tenant) == pytest.approx(
        share(sandbox, 500, 7 * DAY), abs=1
    )
    assert not StripeWrite.objects.pending().exists()
    if paid:
        assert not Credit.objects.exists()
    else:
        assert Credit.objects.get().collection_id == invoices(sandbox)[0].id


def test_unused_time_is_credited_when_paid_before_a_late_cancellation_arrives(
    sandbox, tenant, relay, monkeypatch
):
    """The request is sent while an invoice is unpaid, and arrives after the payment."""
    sandbox.advance(7 * DAY)
    lifecycle.deactivate_relay(relay_id=relay.pk)
    sandbox.fault("reset", method="DELETE", times=3)
    sync(tenant, SyncOutcome.FAILED)
    sandbox.clear_faults()
    pay_all_invoices(sandbox)
    real = Subscriptions.cancel

    def send_twice(self, subscription_id, **terms):
        real(self, subscription_id, prorate=False, invoice_now=False)
        real(self, subscription_id, **terms)

    monkeypatch.setattr(Subscriptions, "cancel", send_twice)
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        sync(tenant)
    post_credits(tenant_id=tenant.pk)

    left = 500 - round(share(sandbox, 500, 7 * DAY))
    assert balance(sandbox, tenant) == -left


def test_no_new_subscription_before_the_credit_is_posted(sandbox, tenant, relay):
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


def test_no_new_subscription_before_the_last_one_is_paid(sandbox, tenant, relay):
    sandbox.advance(7 * DAY)
    deactivate_and_sync(tenant, relay)
    post_collect_and_sync(tenant)
    with pytest.raises(PaymentOverdue):
        lifecycle.activate_relay(relay_id=relay.pk)

    pay_all_invoices(sandbox)
    post_collect_and_sync(tenant)
    lifecycle.activate_relay(relay_id=relay.pk)
    sync(tenant)

    assert len(all_subscriptions(sandbox)) == 2


def test_unused_time_is_credited_once_by_two_workers(
    sandbox, tenant, relay, monkeypatch
):
    """Each reads another maximum for the open invoice, so divides differently."""
    pay_all_invoices(sandbox)
    sandbox.advance(31 * DAY)
    finalize_drafts(sandbox)
    api = sandbox.client().v1
    (renewal,) = api.invoices.list({"status": "open"}).data
    note = api.credit_notes.create({"invoice": renewal.id, "amount": 450})
    real = cancel._end_terms

    def compute_and_get_overtaken(*args):
        terms = real(*args)
        monkeypatch.setattr(cancel, "_end_terms", real)
        api.credit_notes.void_credit_note(note.id)
        cancel.resume_cancellations(Stripe(), tenant.pk)
        return terms

    monkeypatch.setattr(cancel, "_end_terms", compute_and_get_overtaken)
    lifecycle.deactivate_relay(relay_id=relay.pk)
    sync(tenant)

    assert sum(credit.amount_cents for credit in Credit.objects.all()) <= 500
    assert Credit.objects.get().collection_id == renewal.id
