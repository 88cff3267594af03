"""Money given or taken back counts against unused time once, in any order."""

from datetime import timedelta
from itertools import permutations, product

import pytest
import time_machine
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.models import Credit, InvoiceCollection, Reversal, StripeWrite
from billing.services.credits.posting import post_credits
from billing.services.credits.recredit import request_recredit
from billing.services.subscriptions import end_credits
from billing.services.subscriptions.end_credits import recredit_end
from billing.services.subscriptions.ended import handle_subscription_ended
from billing.services.sync.queue import mark_stale
from billing.tests.support.subscriptions import (
    add_relay,
    finalize_drafts,
    pay_all_invoices,
    sync,
    sync_until_in_sync,
)
from billing.tests.support.threads import in_threads
from billing.tests.support.workers import Killed
from caravel.tests.support.search import sample
from relays.models import Relay
from relays.services import lifecycle
from sandbox.tests.support.stripe import builders
from tenants.models import Tenant

pytestmark = pytest.mark.django_db

HOUR = 3600
DAY = 24 * HOUR


@pytest.fixture(scope="module")
def _saved_subscription(_saved_tenant, django_db_blocker):
    with django_db_blocker.unblock():
        return _saved_tenant.then(lambda: subscribe(Tenant.objects.get()))


@pytest.fixture
def tenant(prices, _saved_subscription):
    """A tenant with one relay for $25 a month whose first invoice is a draft."""
    return Tenant.objects.get(pk=_saved_subscription.restore())


def subscribe(tenant):
    add_relay(tenant, "growth")
    sync(tenant)
    return tenant.pk


def invoices(sandbox):
    """Return all invoices, oldest first."""
    return sandbox.client().v1.invoices.list({"limit": 100}).data[::-1]


def balance(sandbox, tenant):
    """Return the customer's balance; credit is negative."""
    return sandbox.client().v1.customers.retrieve(tenant.stripe_customer_id).balance


def pay_by_card(sandbox, tenant):
    """Pay the open invoice by card; return its id and that of the charge."""
    finalize_drafts(sandbox)
    api = sandbox.client()
    card = builders.card(api, tenant.stripe_customer_id)
    (invoice,) = api.v1.invoices.list({"status": "open"}).data
    api.v1.invoices.pay(invoice.id, {"payment_method": card.id})
    return invoice.id, builders.intent_of(api, invoice.id).latest_charge


def end(sandbox, tenant, how="by us"):
    """End the subscription, and credit its unused time."""
    subscription_id = tenant.stripe_subscription_id
    if how == "by us":
        for relay in Relay.objects.billable().filter(tenant=tenant):
            lifecycle.deactivate_relay(relay_id=relay.pk)
    else:
        sandbox.client().v1.subscriptions.cancel(subscription_id, ENDS[how])
        ended = Stripe().subscriptions.get(subscription_id)
        handle_subscription_ended(tenant_id=tenant.pk, subscription=ended)
    sync_until_in_sync(tenant)
    assert post_credits(tenant_id=tenant.pk)
    return subscription_id


ENDS = {
    "by staff": {},
    "by staff, prorated": {"prorate": True},
    "by staff, prorated and invoiced": {"prorate": True, "invoice_now": True},
}


def record(tenant, invoice, kind, cents, state, **fields):
    """Record a reversal, as the handlers of its events do."""
    reversal, _ = Reversal.objects.update_or_create(
        stripe_id=fields.pop("id", f"{kind}_1"),
        defaults={
            "kind": kind,
            "state": state,
            "tenant": tenant,
            "collection_id": invoice,
            "amount_cents": cents,
            "currency": "usd",
            "charge_id": "ch_1",
            "created_at": timezone.now(),
            **fields,
        },
    )
    return reversal


def refund(sandbox, tenant, invoice, charge, cents):
    made = sandbox.client().v1.refunds.create({"charge": charge, "amount": cents})
    record(tenant, invoice, "refund", cents, "succeeded", id=made.id)


def dispute(sandbox, tenant, invoice, charge, cents):
    record(tenant, invoice, "dispute", cents, "needs_response")


def give_out_of_band(sandbox, tenant, invoice, charge, cents):
    sandbox.client().v1.credit_notes.create(
        {"invoice": invoice, "amount": cents, "out_of_band_amount": cents}
    )


def refund_by_note(sandbox, tenant, invoice, charge, cents):
    note = sandbox.client().v1.credit_notes.create(
        {"invoice": invoice, "amount": cents, "refund_amount": cents}
    )
    made = note.refunds[0].refund
    id = getattr(made, "id", made)
    record(tenant, invoice, "refund", cents, "succeeded", id=id, credit_note_id=note.id)


REVERSALS = [refund, dispute, give_out_of_band, refund_by_note]


def recredit(tenant, subscription_id):
    request_recredit(tenant_id=tenant.pk, subscription_id=subscription_id)
    sync_until_in_sync(tenant)
    assert post_credits(tenant_id=tenant.pk)


# --- refunds, notes and disputes, before and after the end

CASES = list(
    product(["before", "after"], ["by us", *ENDS], REVERSALS, [2500, 2400, 100])
)


@pytest.mark.parametrize(("order", "how", "reverse", "cents"), sample(CASES, every=5))
def test_money_returned_is_not_credited_once_more_in_any_order(
    sandbox, tenant, order, how, reverse, cents
):
    """Refunds of $25 gave $22.45 more, and before the tenant left $22.45 or $23.25."""
    invoice, charge = pay_by_card(sandbox, tenant)
    sandbox.advance(2 * DAY)

    if order == "before":
        reverse(sandbox, tenant, invoice, charge, cents)
    subscription_id = end(sandbox, tenant, how)
    if order == "after":
        reverse(sandbox, tenant, invoice, charge, cents)
        recredit(tenant, subscription_id)

    row = InvoiceCollection.objects.get(pk=invoice)
    assert row.unserved_cents == unserved(invoices(sandbox)[0])
    # Credit is negative. Stripe rounds its own part.
    credit = -balance(sandbox, tenant) - pending_cents(sandbox, tenant)
    assert credit == pytest.approx(max(0, row.unserved_cents - cents), abs=1)
    if how in {"by us", "by staff"}:
        assert credit == max(0, row.unserved_cents - cents)


def unserved(invoice):
    """Return the unserved cents of a month, of which two days were served."""
    (line,) = invoice.lines.data
    served = 2 * DAY / (line.period.end - line.period.start)
    return round(line.amount * (1 - served))


def pending_cents(sandbox, tenant):
    params = {"customer": tenant.stripe_customer_id, "pending": True}
    pending = sandbox.client().v1.invoice_items.list(params).data
    return sum(item.amount for item in pending)


@pytest.mark.parametrize("how", ["by us", "by staff"])
@pytest.mark.parametrize("reverse", REVERSALS)
def test_month_that_was_returned_in_full_leaves_no_credit(
    sandbox, tenant, reverse, how
):
    """It left a credit of $22.45 or $23.25."""
    invoice, charge = pay_by_card(sandbox, tenant)
    sandbox.advance(2 * DAY)
    reverse(sandbox, tenant, invoice, charge, 2500)

    end(sandbox, tenant, how)

    assert balance(sandbox, tenant) == 0


@pytest.mark.parametrize("order", list(permutations([refund, dispute, end])))
def test_order_of_a_refund_a_dispute_and_the_end_does_not_matter(
    sandbox, tenant, order
):
    invoice, charge = pay_by_card(sandbox, tenant)
    sandbox.advance(2 * DAY)
    subscription_id = tenant.stripe_subscription_id
    for event in order:
        if event is end:
            end(sandbox, tenant)
            continue
        event(sandbox, tenant, invoice, charge, 700)
        recredit(tenant, subscription_id)

    credit = unserved(invoices(sandbox)[0]) - 2 * 700
    assert -balance(sandbox, tenant) == credit


def test_refund_that_fails_after_the_end_is_credited_again(sandbox, tenant):
    invoice, charge = pay_by_card(sandbox, tenant)
    sandbox.advance(2 * DAY)
    refund(sandbox, tenant, invoice, charge, 2500)
    subscription_id = end(sandbox, tenant)
    assert balance(sandbox, tenant) == 0

    Reversal.objects.update(state="failed")
    recredit(tenant, subscription_id)

    assert -balance(sandbox, tenant) == unserved(invoices(sandbox)[0])
    sources = Credit.objects.order_by("pk").values_list("source", flat=True)
    end_source = f"{subscription_id}:{invoice}:end"
    assert list(sources) == [end_source, f"{end_source}:2"]


def test_won_dispute_is_credited_again_after_the_end(sandbox, tenant):
    invoice, _ = pay_by_card(sandbox, tenant)
    sandbox.advance(2 * DAY)
    subscription_id = end(sandbox, tenant, "by staff")
    for state in ["needs_response", "won", "lost", "won"]:
        record(tenant, invoice, "dispute", 2500, state)
        recredit(tenant, subscription_id)

    assert -balance(sandbox, tenant) == unserved(invoices(sandbox)[0])


def test_credit_note_on_an_open_invoice_counts_against_its_unused_time(sandbox, tenant):
    finalize_drafts(sandbox)
    (invoice,) = invoices(sandbox)
    sandbox.advance(2 * DAY)
    sandbox.client().v1.credit_notes.create({"invoice": invoice.id, "amount": 300})

    end(sandbox, tenant)

    (invoice,) = invoices(sandbox)
    assert invoice.amount_remaining == 2500 - unserved(invoice)
    assert Credit.objects.get().amount_cents == unserved(invoice) - 300


def test_paid_month_before_is_not_touched_by_a_refund_of_the_last_one(sandbox, tenant):
    """A refund counts against the unused time of its own invoice only."""
    first, charge = pay_by_card(sandbox, tenant)
    sandbox.advance(33 * DAY)
    pay_all_invoices(sandbox)
    refund(sandbox, tenant, first, charge, 2500)

    end(sandbox, tenant, "by staff")

    second = invoices(sandbox)[1]
    row = InvoiceCollection.objects.get(pk=second.id)
    assert 0 < row.unserved_cents < 2500
    assert -balance(sandbox, tenant) == row.unserved_cents
    assert InvoiceCollection.objects.get(pk=first).unserved_cents == 0


@pytest.mark.parametrize("how", ["by us", "by staff, prorated and invoiced"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_served_time_is_owed_after_a_refund_except_what_exceeded_unused_time(
    sandbox, tenant, how, order
):
    """Of two relays one is switched off on day 3; the first month is refunded."""
    other = add_relay(tenant, "growth")
    sync(tenant)
    invoice, charge = pay_by_card(sandbox, tenant)
    sandbox.advance(3 * DAY)
    lifecycle.deactivate_relay(relay_id=other.pk)
    sync(tenant)
    sandbox.advance(4 * DAY)

    if order == "before":
        refund(sandbox, tenant, invoice, charge, 2500)
    subscription_id = end(sandbox, tenant, how)
    if order == "after":
        refund(sandbox, tenant, invoice, charge, 2500)
        recredit(tenant, subscription_id)

    (line,) = invoices(sandbox)[0].lines.data
    day = 2500 * DAY / (line.period.end - line.period.start)
    served, gift = 7 * day + 3 * day, 7 * day
    owed = balance(sandbox, tenant) + sum(i.amount_remaining for i in invoices(sandbox))
    assert owed == pytest.approx(served - gift, abs=2)


# --- corrections


def test_recredit_twice_records_one_correction(sandbox, tenant):
    invoice, charge = pay_by_card(sandbox, tenant)
    sandbox.advance(2 * DAY)
    subscription_id = end(sandbox, tenant, "by staff")
    refund(sandbox, tenant, invoice, charge, 2500)

    for _ in range(2):
        recredit_end(Stripe(), tenant, subscription_id)

    assert [credit.amount_cents for credit in Credit.objects.all()] == [
        -unserved(invoices(sandbox)[0]),
        unserved(invoices(sandbox)[0]),
    ]
    assert balance(sandbox, tenant) == 0


def test_recredit_does_nothing_for_a_live_subscription(sandbox, tenant):
    invoice, charge = pay_by_card(sandbox, tenant)
    refund(sandbox, tenant, invoice, charge, 2500)

    recredit(tenant, tenant.stripe_subscription_id)

    assert not Credit.objects.exists()


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_two_workers_record_one_correction(sandbox, tenant):
    invoice, charge = pay_by_card(sandbox, tenant)
    sandbox.advance(2 * DAY)
    subscription_id = end(sandbox, tenant, "by staff")
    refund(sandbox, tenant, invoice, charge, 2500)

    raised = in_threads(2, lambda: recredit_end(Stripe(), tenant, subscription_id))
    post_credits(tenant_id=tenant.pk)

    assert raised == []
    assert Credit.objects.count() == 2
    assert balance(sandbox, tenant) == 0


def test_request_outlives_a_crash_of_the_correction(sandbox, tenant, monkeypatch):
    invoice, charge = pay_by_card(sandbox, tenant)
    sandbox.advance(2 * DAY)
    subscription_id = end(sandbox, tenant, "by staff")
    refund(sandbox, tenant, invoice, charge, 2500)

    def die(*args):
        raise Killed

    request_recredit(tenant_id=tenant.pk, subscription_id=subscription_id)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(end_credits, "list_billed_invoices", die)
        sync(tenant)

    # The lease of the killed worker has ended.
    with time_machine.travel(timezone.now() + timedelta(minutes=6)):
        sync_until_in_sync(tenant)

    assert balance(sandbox, tenant) == 0


def test_reversal_during_the_crediting_of_an_end_is_not_lost(
    sandbox, tenant, monkeypatch
):
    """The note is made and reported after the invoice was read."""
    invoice, charge = pay_by_card(sandbox, tenant)
    sandbox.advance(2 * DAY)
    subscription_id = tenant.stripe_subscription_id
    real = end_credits.credit_end

    def give_back_first(*args):
        monkeypatch.setattr(end_credits, "credit_end", real)
        give_out_of_band(sandbox, tenant, invoice, charge, 2500)
        request_recredit(tenant_id=tenant.pk, subscription_id=subscription_id)
        real(*args)

    monkeypatch.setattr(end_credits, "credit_end", give_back_first)
    for relay in tenant.relays.all():
        lifecycle.deactivate_relay(relay_id=relay.pk)
    mark_stale(tenant_id=tenant.pk)
    sync_until_in_sync(tenant)
    sync_until_in_sync(tenant)

    assert balance(sandbox, tenant) == 0


def test_void_invoice_and_its_credits_are_left_out_of_a_correction(sandbox, tenant):
    pay_by_card(sandbox, tenant)
    sandbox.advance(33 * DAY)
    finalize_drafts(sandbox)
    subscription_id = end(sandbox, tenant)
    second = invoices(sandbox)[1]
    assert second.status == "open"
    assert Credit.objects.get().collection_id == second.id

    sandbox.client().v1.invoices.void_invoice(second.id)
    recredit(tenant, subscription_id)

    assert Credit.objects.count() == 1
    assert balance(sandbox, tenant) == 0


def test_end_credited_by_an_older_version_is_left_alone(sandbox, tenant):
    invoice, charge = pay_by_card(sandbox, tenant)
    sandbox.advance(2 * DAY)
    subscription_id = end(sandbox, tenant, "by staff")
    write = StripeWrite.objects.get(kind="subscription.cancel")
    write.params = {"found": True}
    write.save()
    refund(sandbox, tenant, invoice, charge, 2500)

    recredit(tenant, subscription_id)

    assert Credit.objects.count() == 1
