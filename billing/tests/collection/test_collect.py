"""Collecting invoices by wallet, card and hand."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.exceptions import InvoiceNotOpen
from billing.models import CardAttempt, Credit, InvoiceCollection, Settlement
from billing.services.collection.attempts import collect_now, start_attempt_for_tenant
from billing.services.collection.collect import collect_invoice
from billing.services.credits.posting import record_credit
from billing.services.dunning.suspension import review_tenant, tenants_to_review
from billing.services.invoices.records import read_invoice, record_and_enqueue
from billing.services.payment_page import bolt11
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.subscriptions.ended import handle_subscription_ended
from billing.services.subscriptions.sync import sync_tenant
from billing.tests.support.collection import (
    attach,
    card_codes,
    collect,
    collection_of,
    pay_at_stripe,
    pay_by_wallet,
)
from billing.tests.support.renewals import until_draft
from caravel.core.exceptions import Conflict
from caravel.tests.support.waiting import wait_until
from lightning.clients.pace import Pace, Share
from lightning.exceptions import PaymentInProgress
from lightning.models import NwcPayment
from lightning.services.invoice_status import check_invoice
from lightning.services.rates import clear_cache
from lightning.services.wallets import connect_wallet
from sandbox.wallets.behaviour import PAYS, PAYS_WITHOUT_ANSWER, refuses
from tenants.models import Notice, Tenant

pytestmark = pytest.mark.django_db

State = InvoiceCollection.State
Action = InvoiceCollection.Action


# --- drafts


def test_first_invoice_is_recorded_when_its_subscription_is_created(subscriber):
    first = collection_of(subscriber)

    assert (first.stripe_status, first.state) == ("draft", State.DRAFT)


def test_first_draft_is_finalized_at_once_without_auto_advance(subscriber, sandbox):
    first = collect(subscriber)

    invoice = sandbox.client().v1.invoices.retrieve(first.pk)
    assert (invoice.status, invoice.auto_advance) == ("open", False)
    assert first.finalized_at and first.suspend_at
    assert (first.suspend_at - first.finalized_at).days == 7


def test_invoice_first_seen_after_its_grace_suspends_in_three_days(subscriber, clock):
    finalized = Stripe().invoices.finalize(collection_of(subscriber).pk)
    assert finalized.status == "open"

    clock.move(days=20)
    first = collect(subscriber)

    assert first.suspend_at and first.suspend_at - timezone.now() > timedelta(days=2.9)


def test_renewal_draft_is_finalized_after_two_hours_if_stripe_has_not(
    subscriber, sandbox, clock
):
    collect(subscriber)
    # Stripe does not finalize a draft while its webhook endpoint fails.
    dead_endpoint = {"url": "http://127.0.0.1:1/", "enabled_events": ["*"]}
    sandbox.client().v1.webhook_endpoints.create(dead_endpoint)
    clock.move(seconds=until_draft(sandbox).total_seconds())
    sandbox.advance(1, deliver=True)
    (draft,) = sandbox.client().v1.invoices.list({"status": "draft"}).data
    record_and_enqueue(Stripe().invoices.get(draft.id), subscriber)

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


def test_invoice_waits_for_the_customer_without_wallet_and_card(subscriber):
    first = collect(subscriber)

    assert (first.state, first.amount_remaining_cents) == (State.MANUAL, 500)
    assert first.outcome == "Waiting for the customer or the next attempt"


def test_card_is_charged_once_when_collected_twice(subscriber, sandbox):
    attach(sandbox, subscriber)

    first = collect(subscriber)
    again = collect(subscriber)

    assert (first.stripe_status, first.state, first.paid_by) == (
        "paid",
        "closed",
        "card",
    )
    assert again.closed_at and CardAttempt.objects.get().state == "paid"


def test_card_is_charged_although_the_clock_of_stripe_is_ahead(subscriber, sandbox):
    attach(sandbox, subscriber)
    sandbox.advance(30)

    first = collect(subscriber)

    assert first.finalized_at and first.finalized_at > timezone.now()
    assert (first.stripe_status, first.paid_by) == ("paid", "card")


def test_newest_card_becomes_the_default(subscriber, sandbox, clock):
    attach(sandbox, subscriber, "pm_card_chargeCustomerFail")
    clock.move(seconds=5)
    newest = attach(sandbox, subscriber)

    collect(subscriber)

    customer = sandbox.client().v1.customers.retrieve(subscriber.stripe_customer_id)
    assert customer.invoice_settings.default_payment_method == newest
    assert CardAttempt.objects.get().payment_method == newest


def test_declined_card_is_retried_after_1_3_and_6_days(subscriber, sandbox, clock):
    attach(sandbox, subscriber, outcome="insufficient_funds")

    for days in (0, 0.5, 0.6, 1.8, 0.2, 3, 2, 5):
        clock.move(days=days)
        collect(subscriber)

    assert card_codes() == ["insufficient_funds"] * 4
    assert collection_of(subscriber).state == State.MANUAL


def test_attempts_missed_during_downtime_are_skipped(subscriber, sandbox, clock):
    attach(sandbox, subscriber, outcome="insufficient_funds")
    collect(subscriber)

    clock.move(days=6, hours=1)
    collect(subscriber)
    collect(subscriber)

    assert len(card_codes()) == 2


def test_stolen_card_is_not_charged_again(subscriber, sandbox, clock):
    attach(sandbox, subscriber, outcome="stolen_card")
    collect(subscriber)

    clock.move(days=1, hours=1)
    collect(subscriber)

    assert card_codes() == ["stolen_card"]


def test_new_card_is_charged_after_a_stolen_one(subscriber, sandbox):
    attach(sandbox, subscriber, outcome="stolen_card")
    collect(subscriber)
    attach(sandbox, subscriber)

    start_attempt_for_tenant(tenant_id=subscriber.pk, first=Action.CARD)

    assert collect(subscriber).paid_by == "card"


def test_charge_that_needs_authentication_waits_for_the_customer(subscriber, sandbox):
    attach(sandbox, subscriber, outcome="requires_action")

    first = collect(subscriber)

    assert CardAttempt.objects.get().state == "action_required"
    assert first.state == State.MANUAL


def test_charge_without_an_answer_is_repeated_and_made_once(subscriber, sandbox, clock):
    attach(sandbox, subscriber)
    sandbox.fault("reset", path="/pay$", when="after", times=3)

    first = collect(subscriber)
    assert (first.state, first.last_error_code) == ("pending", "stripe-unavailable")
    clock.move(minutes=2)
    first = collect(subscriber)

    assert (first.paid_by, first.failures) == ("card", 0)
    assert CardAttempt.objects.get().state == "paid"


def test_no_other_payment_starts_while_a_charge_is_pending(
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


def test_pending_charge_is_resolved_from_invoice_payments_after_a_day(
    subscriber, sandbox, clock
):
    attach(sandbox, subscriber)
    sandbox.fault("reset", path="/pay$", when="after", times=3)
    collect(subscriber)

    clock.move(hours=25)
    first = collect(subscriber)

    assert (first.paid_by, CardAttempt.objects.get().state) == ("card", "paid")


def test_charge_that_never_reached_stripe_is_refused_after_a_day(
    subscriber, sandbox, clock
):
    attach(sandbox, subscriber)
    sandbox.fault("reset", path="/pay$", times=3)
    collect(subscriber)

    clock.move(hours=25)
    first = collect(subscriber)

    assert card_codes() == ["not_charged", ""]
    assert first.paid_by == "card"


def test_no_card_charge_while_autopay_is_paused(subscriber, sandbox):
    attach(sandbox, subscriber)
    type(subscriber).objects.update(autopay_paused=True)

    first = collect(subscriber)

    assert (first.state, CardAttempt.objects.count()) == (State.MANUAL, 0)


def test_no_card_charge_before_unused_time_of_an_ended_subscription_is_credited(
    subscriber, sandbox, clock
):
    collect(subscriber)
    clock.move(days=15)
    attach(sandbox, subscriber)
    ended = subscriber.stripe_subscription_id
    sandbox.client().v1.subscriptions.cancel(ended)
    handle_subscription_ended(
        tenant_id=subscriber.pk,
        subscription=Stripe().subscriptions.get(ended),
    )

    collect(subscriber)
    assert card_codes() == []
    sync_tenant(tenant_id=subscriber.pk)
    first = collect(subscriber)

    assert first.paid_by == "card"
    # Half of a month.
    assert abs(CardAttempt.objects.get().amount_cents - 250) <= 20


# --- a wallet


def test_wallet_pays_an_invoice_once(subscriber, wallets, alice, rates):
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


def test_no_notice_while_a_wallet_payment_is_pending(subscriber, alice, rates):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)

    collect(subscriber)
    first = collect(subscriber)

    assert (first.state, first.next_action) == (State.PENDING, Action.CARD)
    assert not Notice.objects.exists()


def test_tenant_who_wants_it_gets_a_notice_with_the_receipt_for_each_payment(
    subscriber, alice, rates
):
    Tenant.objects.update(payment_notices=True)
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    collect(subscriber)
    pay_by_wallet()

    first = collect(subscriber)
    collect(subscriber)

    notice = Notice.objects.get(kind="payment_received")
    assert notice.title == f"Paid: $5.00 for invoice {first.number}"
    assert f"your wallet has paid invoice {first.number}: $5.00" in notice.text
    assert "\nhttp://localhost:8000/pay/" in notice.text


def test_notice_of_a_payment_names_the_card(subscriber, sandbox):
    Tenant.objects.update(payment_notices=True)
    attach(sandbox, subscriber)

    collect(subscriber)

    assert "we have charged your card for invoice" in Notice.objects.get().text


def test_earlier_payment_is_not_reported_to_a_tenant_who_now_wants_notices(
    subscriber, sandbox
):
    attach(sandbox, subscriber)
    assert collect(subscriber).state == State.CLOSED
    Tenant.objects.update(payment_notices=True)

    collect(subscriber)

    assert not Notice.objects.exists()


def test_refusal_of_a_wallet_is_told_by_its_code_not_in_its_own_words(
    subscriber, alice, rates
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    alice.behaviour = refuses("UNAUTHORIZED", "You have won! Go to evil.example.")
    collect(subscriber)
    pay_by_wallet()
    collect(subscriber)

    notice = Notice.objects.get(kind="invoice_due")
    assert "did not pay: it does not know its connection" in notice.text
    assert "evil" not in notice.text
    # Support sees them, in the admin.
    assert "evil" in NwcPayment.objects.get().message


def test_card_is_charged_after_the_wallet_refuses(subscriber, sandbox, alice, rates):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    attach(sandbox, subscriber)
    collect(subscriber)
    pay_by_wallet()

    assert collect(subscriber).paid_by == "card"


def test_card_waits_until_the_unanswered_wallet_payment_is_dead(
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
    assert card_codes() == []
    clock.move(hours=1)
    check_invoice(invoice_id=payment.invoice_id)

    assert collect(subscriber).paid_by == "card"


def test_no_second_charge_when_wallet_paid_but_never_replied(
    subscriber, sandbox, wallets, alice, rates, settings
):
    settings.NWC_TIMEOUT = 5
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    alice.behaviour = PAYS_WITHOUT_ANSWER
    attach(sandbox, subscriber)
    collect(subscriber)

    pay_by_wallet()
    first = collect(subscriber)

    assert (first.paid_by, card_codes()) == ("wallet", [])


def test_rate_limited_wallet_is_retried_three_times_a_minute_apart(
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


def test_card_is_charged_after_an_hour_without_a_bitcoin_price(
    subscriber, sandbox, clock, alice, rates
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    attach(sandbox, subscriber)
    rates.fault("error")

    first = collect(subscriber)
    assert first.last_error_code == "rate-unavailable"
    clock.move(minutes=61)

    assert collect(subscriber).paid_by == "card"


def test_wallet_is_tried_once_our_own_may_be_asked_again(
    subscriber, settings, clock, own_wallet, alice, rates
):
    settings.ROBOT_WALLET_REQUESTS_PER_MINUTE = 60
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    Pace(own_wallet.pubkey, Share.BACKGROUND).take(100)

    first = collect(subscriber)
    assert first.last_error_code == "robot-wallet-busy"
    assert first.next_attempt_at <= timezone.now() + timedelta(seconds=15)
    assert not NwcPayment.objects.exists()
    clock.move(seconds=61)
    collect(subscriber)
    pay_by_wallet()

    assert collect(subscriber).paid_by == "wallet"


def test_new_wallet_is_tried_at_once(subscriber, wallets, alice, rates):
    collect(subscriber)

    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    collect(subscriber)
    pay_by_wallet()

    assert collect(subscriber).paid_by == "wallet"


def test_new_wallet_is_tried_when_the_pending_attempt_has_ended(
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


def test_operator_can_start_an_attempt_with_collect_now(subscriber, alice, rates):
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


# --- a payer


def test_payer_pays_the_presented_bolt11(subscriber, wallets, alice, rates):
    collect(subscriber)
    presented_bolt11 = get_or_issue_bolt11(invoice_id=collection_of(subscriber).pk)
    wallets.ledger.pay("alice", presented_bolt11.bolt11)
    check_invoice(invoice_id=presented_bolt11.pk)

    first = collect(subscriber)

    assert (first.stripe_status, first.paid_by) == ("paid", "lightning")


def test_prices_are_fetched_while_stripe_answers(
    subscriber, wallets, rates, monkeypatch
):
    collect(subscriber)
    clear_cache()
    asked = len(rates.requests)

    def read_late(*args, **kwargs):
        wait_until(lambda: len(rates.requests) > asked, "a request for a price")
        return read_invoice(*args, **kwargs)

    monkeypatch.setattr(bolt11, "read_invoice", read_late)

    assert get_or_issue_bolt11(invoice_id=collection_of(subscriber).pk).bolt11


def test_presented_bolt11_delays_an_attempt_once(
    subscriber, sandbox, clock, wallets, rates
):
    collect(subscriber)
    invoice_id = collection_of(subscriber).pk
    clock.move(hours=23, minutes=50)
    presented_bolt11 = get_or_issue_bolt11(invoice_id=invoice_id)
    attach(sandbox, subscriber)

    clock.move(minutes=30)
    first = collect(subscriber)
    assert (first.state, card_codes()) == (State.PENDING, [])
    with pytest.raises(PaymentInProgress):
        get_or_issue_bolt11(invoice_id=invoice_id)
    clock.move(hours=3)
    check_invoice(invoice_id=presented_bolt11.pk)

    assert collect(subscriber).paid_by == "card"


def test_no_bolt11_is_issued_for_a_paid_invoice(subscriber, sandbox):
    attach(sandbox, subscriber)
    collect(subscriber)

    with pytest.raises(InvoiceNotOpen):
        get_or_issue_bolt11(invoice_id=collection_of(subscriber).pk)


def test_invoice_paid_at_stripe_before_it_was_seen_is_recorded_in_full(
    subscriber, sandbox
):
    collect(subscriber)
    pay_at_stripe(sandbox, subscriber)
    known = collection_of(subscriber)
    InvoiceCollection.objects.all().delete()

    record_and_enqueue(Stripe().invoices.get(known.pk), subscriber)

    row = collect(subscriber)
    assert (row.stripe_status, row.paid_by) == ("paid", "elsewhere")
    assert (row.total_cents, row.amount_paid_cents) == (500, 500)
    assert (row.number, row.finalized_at) == (known.number, known.finalized_at)


def test_payment_on_the_page_of_stripe_closes_the_collection(subscriber, sandbox):
    collect(subscriber)
    pay_at_stripe(sandbox, subscriber)

    first = collect(subscriber)

    assert (first.stripe_status, first.paid_by) == ("paid", "elsewhere")


# --- credit


def test_amount_to_be_credited_is_not_charged(subscriber, sandbox, own_wallet, rates):
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
    start_attempt_for_tenant(tenant_id=subscriber.pk, first=Action.CARD)

    first = collect(subscriber)
    assert (first.state, card_codes()) == (State.COLLECTING, [])
    with pytest.raises(Conflict):
        get_or_issue_bolt11(invoice_id=first.pk)
    sandbox.clear_faults()
    first = collect(subscriber)

    assert (first.paid_by, CardAttempt.objects.get().amount_cents) == ("card", 380)


# --- payments that arrive late, or exceed the amount


@pytest.fixture
def paid_bolt11(invoice, wallets, alice, rates):
    """A presented bolt11 that alice has paid; the payment is not known here yet."""
    bolt11 = get_or_issue_bolt11(invoice_id=invoice.pk)
    wallets.ledger.pay("alice", bolt11.bolt11)
    return bolt11


def only_credit() -> tuple[str, int, str]:
    credit = Credit.objects.get()
    return credit.reason, credit.amount_cents, credit.source


def test_lightning_payment_becomes_credit_if_also_paid_at_stripe(
    subscriber, sandbox, paid_bolt11
):
    pay_at_stripe(sandbox, subscriber)
    check_invoice(invoice_id=paid_bolt11.pk)

    first = collect(subscriber)

    assert (first.stripe_status, first.paid_by) == ("paid", "elsewhere")
    assert only_credit() == ("surplus", 500, paid_bolt11.payment_hash)
    assert Settlement.objects.get().state == "credited"


def test_lightning_payment_of_a_void_invoice_becomes_credit(
    subscriber, sandbox, paid_bolt11
):
    sandbox.client().v1.invoices.void_invoice(collection_of(subscriber).pk)
    check_invoice(invoice_id=paid_bolt11.pk)

    first = collect(subscriber)

    assert (first.stripe_status, first.state) == ("void", State.CLOSED)
    assert only_credit() == ("surplus", 500, paid_bolt11.payment_hash)


def test_lightning_payment_pays_an_uncollectible_invoice(
    subscriber, sandbox, paid_bolt11
):
    sandbox.client().v1.invoices.mark_uncollectible(collection_of(subscriber).pk)
    check_invoice(invoice_id=paid_bolt11.pk)

    first = collect(subscriber)

    assert (first.stripe_status, first.paid_by) == ("paid", "lightning")
    assert not Credit.objects.exists()


def test_amount_taken_off_by_a_credit_note_becomes_credit(
    subscriber, sandbox, paid_bolt11
):
    note = {"invoice": collection_of(subscriber).pk, "amount": 120}
    sandbox.client().v1.credit_notes.create(note)
    check_invoice(invoice_id=paid_bolt11.pk)

    first = collect(subscriber)

    assert (first.stripe_status, Settlement.objects.get().marked_cents) == ("paid", 380)
    assert only_credit() == ("surplus", 120, paid_bolt11.payment_hash)


def test_overpayment_becomes_credit(subscriber, paid_bolt11):
    check_invoice(invoice_id=paid_bolt11.pk)
    type(paid_bolt11).objects.update(received_msat=paid_bolt11.amount_msat * 11 // 10)

    collect(subscriber)

    assert only_credit() == ("surplus", 50, paid_bolt11.payment_hash)


@pytest.mark.parametrize("path", ["invoices/in_[A-Za-z0-9]+$", "/pay$", "payments$"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_payment_is_booked_once_when_any_stripe_call_is_lost(
    subscriber, sandbox, clock, paid_bolt11, path, when
):
    check_invoice(invoice_id=paid_bolt11.pk)
    sandbox.fault("reset", method=None, path=path, when=when, times=3)

    collect(subscriber)
    sandbox.clear_faults()
    clock.move(minutes=2)
    first = collect(subscriber)

    assert (first.stripe_status, first.paid_by) == ("paid", "lightning")
    assert Settlement.objects.get().marked_cents == 500
    assert not Credit.objects.exists()


def test_payment_whose_webhook_was_lost_prevents_suspension(subscriber, sandbox, clock):
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
