"""Reads that a renewal does without: what they were for happens nevertheless."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from billing.clients.stripe.invoices import Invoices
from billing.models import InvoiceCollection, StripeEvent, SubscriptionSync
from billing.services.collection.collect import collect_enqueued, collect_invoice
from billing.services.collection.settlements import METADATA_KEY
from billing.services.events.process import process_event
from billing.services.invoices.records import read_invoice
from billing.tasks import collect_invoice as collect_task
from billing.tasks import sweep_collections
from billing.tests.factories import StripeEventFactory
from billing.tests.support.collection import pay_by_wallet
from billing.tests.support.renewals import (
    enqueued,
    new_events,
    pay_first_invoice,
    process,
    requests_of,
    skip_events,
    until_draft,
)
from billing.tests.support.threads import in_threads
from lightning.services.wallets import connect_wallet
from tenants.models import Tenant

pytestmark = pytest.mark.django_db

COLLECT = "billing.services.collection.collect"
WAITING = "Waiting for Stripe to finalize the draft"


@pytest.fixture
def messages(monkeypatch):
    """The invoices whose collection was enqueued, in order."""
    sent: list[str] = []
    monkeypatch.setattr(
        collect_task,
        "apply_async",
        lambda args=(), kwargs=None, **options: sent.append(args[0]),
    )
    return sent


@pytest.fixture
def tenant(subscriber, sandbox, own_wallet, rates):
    """A tenant without wallet and card whose first invoice is paid."""
    pay_first_invoice(subscriber, sandbox)
    return subscriber


@pytest.fixture
def draft_events(tenant, sandbox, clock):
    """The events of a renewal until its draft, by type."""
    clock.move(seconds=until_draft(sandbox).total_seconds())
    return {event.type: event for event in new_events(sandbox)}


@pytest.fixture
def renewal(draft_events) -> InvoiceCollection:
    """The renewal's draft, as its event has recorded it."""
    outcome = process(draft_events["invoice.created"])
    assert outcome == "the invoice is draft: recorded"
    return newest()


@pytest.fixture
def finalized(renewal, sandbox, clock):
    """The event of its finalization."""
    clock.move(hours=1)
    return next(
        event for event in new_events(sandbox) if event.type == "invoice.finalized"
    )


def newest() -> InvoiceCollection:
    return InvoiceCollection.objects.latest("created_at")


def copy_of(event):
    """Return another event with the same contents."""
    return StripeEventFactory(type=event.type, body=event.body)


# --- the draft


def test_draft_of_a_renewal_waits_without_a_collection(renewal):
    assert enqueued() == []
    assert (renewal.state, renewal.outcome) == ("draft", WAITING)
    assert renewal.next_attempt_at == renewal.created_at + timedelta(hours=2)


def test_draft_that_never_finalizes_is_found_by_the_sweep(
    draft_events, clock, messages
):
    process(draft_events["invoice.created"])
    sweep_collections()
    assert messages == []
    # Before Stripe finalizes it: as if it did not.
    clock.move(minutes=20)
    two_hours_ago = timezone.now() - timedelta(hours=2)
    InvoiceCollection.objects.filter(pk=newest().pk).update(
        created_at=two_hours_ago, next_attempt_at=two_hours_ago + timedelta(hours=2)
    )

    sweep_collections()
    assert messages == [newest().pk]
    collect_enqueued(invoice_id=newest().pk)

    assert newest().stripe_status == "open"


def test_draft_that_a_person_holds_is_collected(draft_events, sandbox):
    event = draft_events["invoice.created"]
    held = {"auto_advance": False}
    sandbox.client().v1.invoices.update(event.data["object"]["id"], held)

    process(event)

    assert enqueued() == [newest().pk]
    collect_enqueued(invoice_id=newest().pk)
    assert newest().outcome.startswith("Draft held at Stripe")


def test_draft_that_a_person_holds_later_is_collected(renewal, sandbox):
    skip_events(sandbox)
    sandbox.client().v1.invoices.update(renewal.pk, {"auto_advance": False})

    [event] = new_events(sandbox)
    process(event)

    assert newest().hold == "held"
    assert enqueued() == [renewal.pk]


def test_draft_of_another_subscription_is_collected(draft_events, tenant):
    Tenant.objects.filter(pk=tenant.pk).update(stripe_subscription_id="sub_other")

    process(draft_events["invoice.created"])

    assert enqueued() == [newest().pk]
    collect_enqueued(invoice_id=newest().pk)
    assert SubscriptionSync.objects.get(pk=tenant.pk).is_stale


def test_draft_event_that_comes_after_the_finalization(draft_events, sandbox, clock):
    clock.move(hours=1)
    [finalized] = [
        each for each in new_events(sandbox) if each.type == "invoice.finalized"
    ]

    assert process(finalized) == "the invoice is open: collection enqueued"
    collect_enqueued(invoice_id=newest().pk)
    assert process(draft_events["invoice.created"]) == "collection enqueued"

    collect_enqueued(invoice_id=newest().pk)
    assert (newest().stripe_status, newest().attempts_started) == ("open", 1)


def test_draft_is_finalized_between_the_read_and_the_record(
    draft_events, sandbox, clock, monkeypatch
):
    real = Invoices.get

    def get_then_finalize(invoices, invoice_id):
        answer = real(invoices, invoice_id)
        monkeypatch.setattr(Invoices, "get", real)
        clock.move(hours=1)
        for event in new_events(sandbox):
            process(event)
        return answer

    monkeypatch.setattr(Invoices, "get", get_then_finalize)

    outcome = process(draft_events["invoice.created"])

    assert outcome == "the invoice is open: recorded"
    assert (newest().stripe_status, enqueued()) == ("open", [newest().pk])


# --- the finalization


def test_finalization_of_a_known_invoice_is_read_by_its_collection(finalized, sandbox):
    made = requests_of(sandbox, lambda: process(finalized))
    assert (made.total(), enqueued()) == (0, [newest().pk])

    collect_enqueued(invoice_id=newest().pk)

    assert (newest().stripe_status, newest().attempts_started) == ("open", 1)


def test_finalization_whose_message_is_lost_is_found_by_the_sweep(
    finalized, messages, clock, settings
):
    process(finalized)
    clock.move(seconds=settings.ENQUEUED_TIMEOUT + 1)

    sweep_collections()

    assert messages == [newest().pk]
    collect_enqueued(invoice_id=newest().pk)
    assert newest().stripe_status == "open"


def test_finalization_is_processed_while_a_collection_has_read_the_draft(
    renewal, sandbox, clock, monkeypatch
):
    real = read_invoice

    def read_then_process(*args):
        invoice = real(*args)
        monkeypatch.setattr(f"{COLLECT}.read_invoice", real)
        clock.move(hours=1)
        for event in new_events(sandbox):
            process(event)
        return invoice

    monkeypatch.setattr(f"{COLLECT}.read_invoice", read_then_process)
    collect_invoice(invoice_id=renewal.pk)

    assert (newest().stripe_status, enqueued()) == ("draft", [renewal.pk])
    collect_enqueued(invoice_id=renewal.pk)
    assert newest().stripe_status == "open"


def test_finalization_after_a_collection_that_was_skipped(finalized):
    process(finalized)
    again = copy_of(finalized)
    collect_enqueued(invoice_id=newest().pk)
    assert "Collected since" in collect_enqueued(invoice_id=newest().pk)

    process(again)

    assert enqueued() == [newest().pk]


def test_finalization_with_an_old_snapshot_starts_no_attempt(finalized, sandbox):
    sandbox.client().v1.invoices.void_invoice(newest().pk)

    process(finalized)
    collect_enqueued(invoice_id=newest().pk)

    assert (newest().stripe_status, newest().state) == ("void", "closed")
    assert newest().attempts_started == 0


def test_finalization_after_the_payment_changes_nothing(finalized, sandbox):
    again = copy_of(finalized)
    sandbox.client().v1.invoices.pay(newest().pk, {"paid_out_of_band": True})
    process(finalized)
    collect_enqueued(invoice_id=newest().pk)

    assert process(again) == "collected already"
    assert (newest().state, enqueued()) == ("closed", [])


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_finalization_is_delivered_twice_at_once(finalized, messages, sandbox):
    events = [finalized, copy_of(finalized)]

    raised = in_threads(2, lambda: [process_event(event_id=each.pk) for each in events])

    assert raised == []
    assert messages == [newest().pk]
    rows = StripeEvent.objects.filter(pk__in=[each.pk for each in events])
    assert set(rows.values_list("status", flat=True)) == {"processed"}


# --- changes that another event or we ourselves follow up


def test_new_status_is_left_to_its_own_event(renewal, sandbox, clock):
    clock.move(hours=1)
    by_type = {event.type: event for event in new_events(sandbox)}

    made = requests_of(sandbox, lambda: process(by_type["invoice.updated"]))
    assert (made.total(), enqueued()) == (0, [])

    process(by_type["invoice.finalized"])
    assert enqueued() == [renewal.pk]


@pytest.mark.parametrize(
    ("act", "type"),
    [
        ("pay", "invoice.paid"),
        ("void_invoice", "invoice.voided"),
        ("mark_uncollectible", "invoice.marked_uncollectible"),
    ],
)
def test_end_of_a_debt_is_read_at_once(finalized, sandbox, act, type):
    process(finalized)
    collect_enqueued(invoice_id=newest().pk)
    skip_events(sandbox)
    params = {"paid_out_of_band": True} if act == "pay" else {}
    changed = getattr(sandbox.client().v1.invoices, act)(newest().pk, params)

    by_type = {event.type: event for event in new_events(sandbox)}
    process(by_type["invoice.updated"])
    process(by_type[type])

    assert newest().stripe_status == changed.status


def test_our_mark_costs_no_request_and_is_completed_after_a_crash(
    finalized, tenant, sandbox, alice, monkeypatch, clock
):
    connect_wallet(pubkey=tenant.pk, nwc_url=alice.url)
    process(finalized)
    collect_enqueued(invoice_id=newest().pk)
    pay_by_wallet()
    skip_events(sandbox)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Invoices, "mark_paid_out_of_band", interrupt)
        collect_enqueued(invoice_id=newest().pk)

    [event] = new_events(sandbox)
    made = requests_of(sandbox, lambda: process(event))

    assert (event.type, made.total(), enqueued()) == ("invoice.updated", 0, [])
    # The row is due, as its worker has left it.
    assert newest().next_attempt_at <= timezone.now()
    collect_enqueued(invoice_id=newest().pk)
    assert (newest().state, newest().paid_by) == ("closed", "wallet")


def interrupt(*args):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "metadata",
    [{"other": "x"}, {METADATA_KEY: "ab" * 32, "other": "x"}],
    ids=["other", "also"],
)
def test_other_metadata_is_read(finalized, sandbox, metadata):
    skip_events(sandbox)
    sandbox.client().v1.invoices.update(newest().pk, {"metadata": metadata})

    [event] = new_events(sandbox)
    made = requests_of(sandbox, lambda: process(event))

    assert made == {"GET invoices": 1}


@pytest.mark.parametrize("payments", [None, "listed"])
def test_payment_is_booked_whether_stripe_shows_all_payments_or_not(
    finalized, tenant, sandbox, alice, monkeypatch, payments
):
    connect_wallet(pubkey=tenant.pk, nwc_url=alice.url)
    process(finalized)
    collect_enqueued(invoice_id=newest().pk)
    pay_by_wallet()
    real = Invoices.mark_paid_out_of_band

    def mark(invoices, invoice_id):
        marked = real(invoices, invoice_id)
        assert marked.payments
        return marked if payments else replace(marked, payments=None)

    monkeypatch.setattr(Invoices, "mark_paid_out_of_band", mark)
    made = requests_of(sandbox, lambda: collect_enqueued(invoice_id=newest().pk))

    assert made["GET invoice_payments"] == (0 if payments else 1)
    assert newest().settlements.get().marked_cents == 500
    assert newest().paid_by == "wallet"


# --- the subscription


def test_new_period_of_a_subscription_costs_no_request(draft_events, sandbox, tenant):
    event = draft_events["customer.subscription.updated"]

    made = requests_of(sandbox, lambda: process(event))

    assert (made.total(), event.outcome) == (0, "only its period has changed")
    assert not SubscriptionSync.objects.get(pk=tenant.pk).is_stale


def test_change_beside_a_new_period_has_its_own_event(draft_events, sandbox, tenant):
    client = sandbox.client().v1
    [item] = client.subscriptions.retrieve(tenant.stripe_subscription_id).items.data
    change = {"items": [{"id": item.id, "quantity": 9}]}
    client.subscriptions.update(tenant.stripe_subscription_id, change)
    [changed] = [
        each
        for each in new_events(sandbox)
        if each.type == "customer.subscription.updated"
    ]

    # In the wrong order.
    process(changed)
    process(draft_events["customer.subscription.updated"])

    assert SubscriptionSync.objects.get(pk=tenant.pk).is_stale


ITEM = {"id": "si_1", "price": {"id": "price_1"}, "quantity": 1, "billed_until": 2}


@pytest.mark.parametrize(
    ("previous", "items"),
    [
        (None, {"data": [ITEM]}),
        ({}, {"data": [ITEM]}),
        ({"status": "past_due", "latest_invoice": "in_1"}, {"data": [ITEM]}),
        ({"items": {"data": [{**ITEM, "quantity": 2}]}}, {"data": [ITEM]}),
        ({"items": {"data": [ITEM, ITEM]}}, {"data": [ITEM]}),
        ({"items": {"data": [ITEM]}}, {"data": [ITEM], "has_more": True}),
        ({"items": {"data": [ITEM]}}, None),
        ({"items": [ITEM]}, [ITEM]),
        ({"items": {"data": "x"}}, {"data": "x"}),
        ({"items": {"data": ["x"]}}, {"data": ["x"]}),
    ],
    ids=[
        "without the old values",
        "without a change",
        "status",
        "quantity",
        "an item less",
        "more items than shown",
        "without items",
        "list",
        "text",
        "texts",
    ],
)
def test_other_changes_of_a_subscription_are_read(tenant, sandbox, previous, items):
    sent = {
        "id": tenant.stripe_subscription_id,
        "object": "subscription",
        "customer": tenant.stripe_customer_id,
        "items": items,
    }
    event = StripeEventFactory(object=sent, previous=previous)

    made = requests_of(sandbox, lambda: process(event))

    assert made == {"GET subscriptions": 1}
    assert event.outcome == "matches the relays"


@pytest.mark.parametrize(
    "previous",
    [{"latest_invoice": "in_1"}, {"items": {"data": [{**ITEM, "billed_until": 1}]}}],
    ids=["invoice", "period"],
)
def test_change_of_period_or_invoice_alone_is_not_read(tenant, sandbox, previous):
    sent = {
        "id": tenant.stripe_subscription_id,
        "object": "subscription",
        "customer": tenant.stripe_customer_id,
        "items": {"data": [ITEM]},
    }
    event = StripeEventFactory(object=sent, previous=previous)

    assert requests_of(sandbox, lambda: process(event)).total() == 0
