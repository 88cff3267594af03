"""Collecting invoices, by every rail."""

from datetime import timedelta

import pytest
import requests
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.exceptions import InvoiceNotOpen
from billing.models import CardAttempt, Credit, InvoiceCollection, Settlement
from billing.services.collection.attempts import collect_now, start_attempt_for_tenant
from billing.services.collection.collect import collect_invoice
from billing.services.credits.posting import record_credit
from billing.services.dunning.review import review_tenant, tenants_to_review
from billing.services.invoices.records import record_and_enqueue
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.subscriptions.ended import handle_subscription_ended
from billing.services.subscriptions.sync import sync_tenant
from caravel.core.exceptions import Conflict
from lightning.exceptions import PaymentInProgress
from lightning.models import NwcPayment
from lightning.services.invoice_status import check_invoice
from lightning.services.payments import run_payment
from lightning.services.wallets import connect_wallet
from sandbox.wallets import PAYS, PAYS_WITHOUT_ANSWER, refuses
from tenants.models import Notice

pytestmark = pytest.mark.django_db

State = InvoiceCollection.State
Action = InvoiceCollection.Action


def collection_of(tenant) -> InvoiceCollection:
    return InvoiceCollection.objects.get(tenant=tenant)


def collect(tenant) -> InvoiceCollection:
    collect_invoice(invoice_id=collection_of(tenant).pk)
    return collection_of(tenant)


def attach(sandbox, tenant, card="pm_card_visa", outcome="succeed") -> str:
    api, customer = sandbox.client().v1, tenant.stripe_customer_id
    api.customers.update(customer, {"metadata": {"sandbox_outcome": outcome}})
    return str(api.payment_methods.attach(card, {"customer": customer}).id)


def pay_at_stripe(sandbox, tenant) -> None:
    """What a person does on Stripe's hosted page."""
    url = f"{sandbox.url}/_sandbox/invoices/{collection_of(tenant).pk}/pay"
    requests.post(url, json={"card": "pm_card_visa"}, timeout=20).raise_for_status()


def pay_by_wallet() -> NwcPayment:
    return run_payment(payment_id=NwcPayment.objects.pending().get().pk)


def codes() -> list[str]:
    attempts = CardAttempt.objects.order_by("pk")
    return list(attempts.values_list("code", flat=True))


# --- drafts


def test_the_first_invoice_is_taken_up_with_its_subscription(subscriber):
    first = collection_of(subscriber)

    assert (first.stripe_status, first.state) == ("draft", State.DRAFT)


def test_a_first_draft_is_finalized_at_once_and_stripe_leaves_it_alone(
    subscriber, sandbox
):
    first = collect(subscriber)

    invoice = sandbox.client().v1.invoices.retrieve(first.pk)
    assert (invoice.status, invoice.auto_advance) == ("open", False)
    assert first.finalized_at and first.suspend_at
    assert (first.suspend_at - first.finalized_at).days == 7


def test_an_invoice_that_we_see_late_suspends_no_sooner_than_in_three_days(
    subscriber, clock
):
    api_says = Stripe().finalize_invoice(collection_of(subscriber).pk)
    assert api_says.status == "open"

    clock.move(days=20)
    first = collect(subscriber)

    assert first.suspend_at and first.suspend_at - timezone.now() > timedelta(days=2.9)


def test_a_renewals_draft_is_left_to_stripe_for_two_hours(subscriber, sandbox, clock):
    collect(subscriber)
    # While its events are refused, Stripe does not finalize a draft.
    deaf = {"url": "http://127.0.0.1:1/", "enabled_events": ["*"]}
    sandbox.client().v1.webhook_endpoints.create(deaf)
    clock.move(days=30, minutes=1)
    sandbox.advance(1, deliver=True)
    (draft,) = sandbox.client().v1.invoices.list({"status": "draft"}).data
    record_and_enqueue(Stripe().get_invoice(draft.id), subscriber)

    collect_invoice(invoice_id=draft.id)
    renewal = InvoiceCollection.objects.get(pk=draft.id)
    assert (renewal.stripe_status, renewal.state) == ("draft", State.DRAFT)
    clock.move(hours=2)
    collect_invoice(invoice_id=draft.id)

    renewal.refresh_from_db()
    assert (renewal.stripe_status, renewal.billing_reason) == (
        "open",
        "subscription_cycle",
    )


# --- a card


def test_without_a_wallet_or_a_card_it_waits_for_a_person(subscriber):
    first = collect(subscriber)

    assert (first.state, first.amount_remaining_cents) == (State.MANUAL, 500)
    assert first.outcome == "waits for a person, or the next try"


def test_a_card_pays_it_once(subscriber, sandbox):
    attach(sandbox, subscriber)

    first = collect(subscriber)
    again = collect(subscriber)

    assert (first.stripe_status, first.state, first.paid_by) == (
        "paid",
        "closed",
        "card",
    )
    assert again.closed_at and CardAttempt.objects.get().state == "paid"


def test_stripes_clock_may_be_ahead_of_ours(subscriber, sandbox):
    attach(sandbox, subscriber)
    sandbox.advance(30)

    first = collect(subscriber)

    assert first.finalized_at and first.finalized_at > timezone.now()
    assert (first.stripe_status, first.paid_by) == ("paid", "card")


def test_the_newest_card_becomes_the_default(subscriber, sandbox, clock):
    attach(sandbox, subscriber, "pm_card_chargeCustomerFail")
    clock.move(seconds=5)
    newest = attach(sandbox, subscriber)

    collect(subscriber)

    customer = sandbox.client().v1.customers.retrieve(subscriber.stripe_customer_id)
    assert customer.invoice_settings.default_payment_method == newest
    assert CardAttempt.objects.get().payment_method == newest


def test_a_declined_card_is_tried_again_after_1_3_and_6_days(
    subscriber, sandbox, clock
):
    attach(sandbox, subscriber, outcome="insufficient_funds")

    for days in (0, 0.5, 0.6, 1.8, 0.2, 3, 2, 5):
        clock.move(days=days)
        collect(subscriber)

    assert codes() == ["insufficient_funds"] * 4
    assert collection_of(subscriber).state == State.MANUAL


def test_rungs_that_nobody_was_there_for_are_not_made_up_for(
    subscriber, sandbox, clock
):
    attach(sandbox, subscriber, outcome="insufficient_funds")
    collect(subscriber)

    clock.move(days=6, hours=1)
    collect(subscriber)
    collect(subscriber)

    assert len(codes()) == 2


def test_a_stolen_card_is_not_charged_again(subscriber, sandbox, clock):
    attach(sandbox, subscriber, outcome="stolen_card")
    collect(subscriber)

    clock.move(days=1, hours=1)
    collect(subscriber)

    assert codes() == ["stolen_card"]


def test_another_card_is_charged_instead_of_a_stolen_one(subscriber, sandbox):
    attach(sandbox, subscriber, outcome="stolen_card")
    collect(subscriber)
    attach(sandbox, subscriber)

    start_attempt_for_tenant(tenant_id=subscriber.pk, rail=Action.CARD)

    assert collect(subscriber).paid_by == "card"


def test_a_card_that_its_owner_must_confirm_waits_for_them(subscriber, sandbox):
    attach(sandbox, subscriber, outcome="requires_action")

    first = collect(subscriber)

    assert CardAttempt.objects.get().state == "action_required"
    assert first.state == State.MANUAL


def test_a_charge_without_an_answer_is_asked_for_again_and_made_once(
    subscriber, sandbox, clock
):
    attach(sandbox, subscriber)
    sandbox.fault("reset", path="/pay$", when="after", times=3)

    first = collect(subscriber)
    assert (first.state, first.last_error_code) == ("pending", "stripe-unavailable")
    clock.move(minutes=2)
    first = collect(subscriber)

    assert (first.paid_by, first.failures) == ("card", 0)
    assert CardAttempt.objects.get().state == "paid"


def test_nothing_else_begins_while_a_charge_has_no_answer(
    subscriber, sandbox, clock, alice, rates
):
    attach(sandbox, subscriber)
    sandbox.fault("status", path="/pay$", status=500, times=None)
    collect(subscriber)
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)

    for _ in range(4):
        clock.move(minutes=10)
        collect(subscriber)
    with pytest.raises(PaymentInProgress):
        get_or_issue_bolt11(invoice_id=collection_of(subscriber).pk)

    assert not NwcPayment.objects.exists()
    assert CardAttempt.objects.get().state == "pending"


def test_after_a_day_the_payments_tell_what_came_of_a_charge(
    subscriber, sandbox, clock
):
    attach(sandbox, subscriber)
    sandbox.fault("reset", path="/pay$", when="after", times=3)
    collect(subscriber)

    clock.move(hours=25)
    first = collect(subscriber)

    assert (first.paid_by, CardAttempt.objects.get().state) == ("card", "paid")


def test_after_a_day_a_charge_that_never_arrived_is_refused(subscriber, sandbox, clock):
    attach(sandbox, subscriber)
    sandbox.fault("reset", path="/pay$", times=3)
    collect(subscriber)

    clock.move(hours=25)
    first = collect(subscriber)

    assert codes() == ["not_charged", ""]
    assert first.paid_by == "card"


def test_a_card_is_not_charged_for_a_tenant_who_paused_that(subscriber, sandbox):
    attach(sandbox, subscriber)
    type(subscriber).objects.update(autopay_paused=True)

    first = collect(subscriber)

    assert (first.state, CardAttempt.objects.count()) == (State.MANUAL, 0)


def test_no_card_is_charged_before_a_subscriptions_end_is_settled(
    subscriber, sandbox, clock
):
    collect(subscriber)
    clock.move(days=15)
    attach(sandbox, subscriber)
    ended = subscriber.stripe_subscription_id
    sandbox.client().v1.subscriptions.cancel(ended)
    handle_subscription_ended(
        tenant_id=subscriber.pk,
        subscription=Stripe().get_subscription(ended),
    )

    collect(subscriber)
    assert codes() == []
    sync_tenant(tenant_id=subscriber.pk)
    first = collect(subscriber)

    assert (first.paid_by, CardAttempt.objects.get().amount_cents) == ("card", 250)


# --- a wallet


def test_a_wallet_pays_it_once(subscriber, wallets, alice, rates):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)

    assert collect(subscriber).state == State.PENDING
    pay_by_wallet()
    first = collect(subscriber)
    collect(subscriber)

    assert (first.stripe_status, first.state, first.paid_by) == (
        "paid",
        "closed",
        "wallet",
    )
    assert Settlement.objects.get().marked_cents == 500
    assert len(wallets.ledger.debits("alice")) == 1


def test_while_a_wallet_is_asked_nobody_is_told_to_pay(subscriber, alice, rates):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)

    collect(subscriber)
    first = collect(subscriber)

    assert (first.state, first.next_action) == (State.PENDING, Action.CARD)
    assert not Notice.objects.exists()


def test_a_wallet_that_refuses_lets_the_card_pay(subscriber, sandbox, alice, rates):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    attach(sandbox, subscriber)
    collect(subscriber)
    pay_by_wallet()

    assert collect(subscriber).paid_by == "card"


def test_a_wallet_without_an_answer_keeps_the_card_waiting_until_it_is_dead(
    subscriber, sandbox, clock, alice, rates
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INTERNAL")
    attach(sandbox, subscriber)
    collect(subscriber)
    payment = pay_by_wallet()
    assert payment.state == "pending"

    clock.move(hours=2)
    assert collect(subscriber).state == State.PENDING
    assert codes() == []
    clock.move(hours=1)
    check_invoice(invoice_id=payment.invoice_id)

    assert collect(subscriber).paid_by == "card"


def test_a_wallet_that_paid_in_silence_is_not_charged_again(
    subscriber, sandbox, wallets, alice, rates
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    alice.behaviour = PAYS_WITHOUT_ANSWER
    attach(sandbox, subscriber)
    collect(subscriber)

    pay_by_wallet()
    first = collect(subscriber)

    assert (first.paid_by, codes()) == ("wallet", [])


def test_a_busy_wallet_is_asked_three_times_more_a_minute_apart(
    subscriber, sandbox, clock, alice, rates
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    alice.behaviour = refuses("RATE_LIMITED")
    attach(sandbox, subscriber)
    collect(subscriber)
    pay_by_wallet()

    for _ in range(3):
        assert collect(subscriber).state == State.COLLECTING
        clock.move(seconds=61)
        collect(subscriber)
        pay_by_wallet()

    assert collect(subscriber).paid_by == "card"
    assert NwcPayment.objects.count() == 4


def test_without_a_price_the_wallet_waits_an_hour_and_then_the_card_pays(
    subscriber, sandbox, clock, alice, rates
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    attach(sandbox, subscriber)
    rates.fault("error")

    first = collect(subscriber)
    assert first.last_error_code == "rate-unavailable"
    clock.move(minutes=61)

    assert collect(subscriber).paid_by == "card"


def test_a_new_wallet_is_tried_at_once(subscriber, wallets, alice, rates):
    collect(subscriber)

    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    collect(subscriber)
    pay_by_wallet()

    assert collect(subscriber).paid_by == "wallet"


def test_a_new_wallet_is_tried_when_the_attempt_under_way_has_ended(
    subscriber, wallets, clock, alice, rates
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INTERNAL")
    collect(subscriber)
    payment = pay_by_wallet()

    bob = wallets.create("bob", balance_msat=10**9)
    connect_wallet(pubkey=subscriber.pk, nwc_url=bob.url)
    assert collect(subscriber).state == State.PENDING
    clock.move(hours=3)
    check_invoice(invoice_id=payment.invoice_id)
    collect(subscriber)
    pay_by_wallet()

    assert collect(subscriber).paid_by == "wallet"
    assert (wallets.ledger.debits("alice"), len(wallets.ledger.debits("bob"))) == (
        [],
        1,
    )


def test_support_may_begin_a_rung(subscriber, alice, rates):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    collect(subscriber)
    pay_by_wallet()
    collect(subscriber)
    alice.behaviour = PAYS

    assert collect_now(invoice_id=collection_of(subscriber).pk)
    collect(subscriber)
    pay_by_wallet()

    assert collect(subscriber).paid_by == "wallet"


# --- a person


def test_a_person_pays_the_bolt11_that_they_were_shown(
    subscriber, wallets, alice, rates
):
    collect(subscriber)
    presented_bolt11 = get_or_issue_bolt11(invoice_id=collection_of(subscriber).pk)
    wallets.ledger.pay("alice", presented_bolt11.bolt11)
    check_invoice(invoice_id=presented_bolt11.pk)

    first = collect(subscriber)

    assert (first.stripe_status, first.paid_by) == ("paid", "lightning")


def test_a_bolt11_that_is_shown_delays_a_rung_once(
    subscriber, sandbox, clock, wallets, rates
):
    collect(subscriber)
    invoice_id = collection_of(subscriber).pk
    clock.move(hours=23, minutes=50)
    presented_bolt11 = get_or_issue_bolt11(invoice_id=invoice_id)
    attach(sandbox, subscriber)

    clock.move(minutes=30)
    first = collect(subscriber)
    assert (first.state, codes()) == (State.PENDING, [])
    with pytest.raises(PaymentInProgress):
        get_or_issue_bolt11(invoice_id=invoice_id)
    clock.move(hours=3)
    check_invoice(invoice_id=presented_bolt11.pk)

    assert collect(subscriber).paid_by == "card"


def test_nothing_is_offered_for_what_is_paid(subscriber, sandbox):
    attach(sandbox, subscriber)
    collect(subscriber)

    with pytest.raises(InvoiceNotOpen):
        get_or_issue_bolt11(invoice_id=collection_of(subscriber).pk)


def test_what_was_paid_at_stripe_before_we_saw_it_is_known_in_full(subscriber, sandbox):
    collect(subscriber)
    pay_at_stripe(sandbox, subscriber)
    known = collection_of(subscriber)
    InvoiceCollection.objects.all().delete()

    record_and_enqueue(Stripe().get_invoice(known.pk), subscriber)

    row = collect(subscriber)
    assert (row.stripe_status, row.paid_by) == ("paid", "elsewhere")
    assert (row.total_cents, row.amount_paid_cents) == (500, 500)
    assert (row.number, row.finalized_at) == (known.number, known.finalized_at)


def test_what_a_person_pays_at_stripe_closes_it(subscriber, sandbox):
    collect(subscriber)
    pay_at_stripe(sandbox, subscriber)

    first = collect(subscriber)

    assert (first.stripe_status, first.paid_by) == ("paid", "elsewhere")


# --- credit


def test_what_is_to_be_credited_is_not_charged(subscriber, sandbox, own_wallet, rates):
    collect(subscriber)
    attach(sandbox, subscriber)
    record_credit(
        tenant_id=subscriber.pk,
        reason=Credit.Reason.UNSERVED,
        source="a week",
        currency="usd",
        amount_cents=120,
        collection_id=collection_of(subscriber).pk,
    )
    sandbox.fault("status", path="^/v1/credit_notes$", status=500, times=None)
    start_attempt_for_tenant(tenant_id=subscriber.pk, rail=Action.CARD)

    first = collect(subscriber)
    assert (first.state, codes()) == (State.COLLECTING, [])
    with pytest.raises(Conflict):
        get_or_issue_bolt11(invoice_id=first.pk)
    sandbox.clear_faults()
    first = collect(subscriber)

    assert (first.paid_by, CardAttempt.objects.get().amount_cents) == ("card", 380)


# --- money that comes too late, or is too much


@pytest.fixture
def presented_bolt11(subscriber, wallets, alice, rates):
    """A Lightning invoice of the first invoice, which alice has paid; not yet known."""
    collect(subscriber)
    offered = get_or_issue_bolt11(invoice_id=collection_of(subscriber).pk)
    wallets.ledger.pay("alice", offered.bolt11)
    return offered


def credit() -> tuple[str, int, str]:
    found = Credit.objects.get()
    return found.reason, found.amount_cents, found.source


def test_paid_at_stripe_as_well_all_of_it_is_credit(
    subscriber, sandbox, presented_bolt11
):
    pay_at_stripe(sandbox, subscriber)
    check_invoice(invoice_id=presented_bolt11.pk)

    first = collect(subscriber)

    assert (first.stripe_status, first.paid_by) == ("paid", "elsewhere")
    assert credit() == ("surplus", 500, presented_bolt11.payment_hash)
    assert Settlement.objects.get().state == "credited"


def test_for_a_void_invoice_all_of_it_is_credit(subscriber, sandbox, presented_bolt11):
    sandbox.client().v1.invoices.void_invoice(collection_of(subscriber).pk)
    check_invoice(invoice_id=presented_bolt11.pk)

    first = collect(subscriber)

    assert (first.stripe_status, first.state) == ("void", State.CLOSED)
    assert credit() == ("surplus", 500, presented_bolt11.payment_hash)


def test_an_invoice_that_was_written_off_is_paid_by_it(
    subscriber, sandbox, presented_bolt11
):
    sandbox.client().v1.invoices.mark_uncollectible(collection_of(subscriber).pk)
    check_invoice(invoice_id=presented_bolt11.pk)

    first = collect(subscriber)

    assert (first.stripe_status, first.paid_by) == ("paid", "lightning")
    assert not Credit.objects.exists()


def test_what_a_credit_note_has_taken_off_is_credit(
    subscriber, sandbox, presented_bolt11
):
    note = {"invoice": collection_of(subscriber).pk, "amount": 120}
    sandbox.client().v1.credit_notes.create(note)
    check_invoice(invoice_id=presented_bolt11.pk)

    first = collect(subscriber)

    assert (first.stripe_status, Settlement.objects.get().marked_cents) == ("paid", 380)
    assert credit() == ("surplus", 120, presented_bolt11.payment_hash)


def test_what_came_on_top_is_credit(subscriber, presented_bolt11):
    check_invoice(invoice_id=presented_bolt11.pk)
    type(presented_bolt11).objects.update(
        received_msat=presented_bolt11.amount_msat * 11 // 10
    )

    collect(subscriber)

    assert credit() == ("surplus", 50, presented_bolt11.payment_hash)


@pytest.mark.parametrize("path", ["invoices/in_[A-Za-z0-9]+$", "/pay$", "payments$"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_whatever_call_is_lost_the_payment_is_booked_once(
    subscriber, sandbox, clock, presented_bolt11, path, when
):
    check_invoice(invoice_id=presented_bolt11.pk)
    sandbox.fault("reset", method=None, path=path, when=when, times=3)

    collect(subscriber)
    sandbox.clear_faults()
    clock.move(minutes=2)
    first = collect(subscriber)

    assert (first.stripe_status, first.paid_by) == ("paid", "lightning")
    assert Settlement.objects.get().marked_cents == 500
    assert not Credit.objects.exists()


def test_what_was_paid_unheard_of_switches_no_relay_off(subscriber, sandbox, clock):
    collect(subscriber)
    clock.move(days=7, minutes=-20)
    collect(subscriber)
    pay_at_stripe(sandbox, subscriber)

    # No webhook comes, but beat ticks.
    for _ in range(3):
        clock.move(minutes=10)
        for invoice_id in InvoiceCollection.objects.working().claim(now=timezone.now()):
            collect_invoice(invoice_id=invoice_id)
        for tenant_id in tenants_to_review(timezone.now()):
            review_tenant(tenant_id=tenant_id)

    assert collection_of(subscriber).state == State.CLOSED
    assert subscriber.relays.get().status == "active"
    assert not Notice.objects.filter(kind="suspended").exists()
