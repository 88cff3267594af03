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


def test_the_first_invoice_is_taken_up_with_its_subscription(billed):
    first = collection_of(billed)

    assert (first.stripe_status, first.state) == ("draft", State.DRAFT)


def test_a_first_draft_is_finalized_at_once_and_stripe_leaves_it_alone(billed, sandbox):
    first = collect(billed)

    invoice = sandbox.client().v1.invoices.retrieve(first.pk)
    assert (invoice.status, invoice.auto_advance) == ("open", False)
    assert first.finalized_at and first.suspend_at
    assert (first.suspend_at - first.finalized_at).days == 7


def test_an_invoice_that_we_see_late_suspends_no_sooner_than_in_three_days(
    billed, clock
):
    api_says = Stripe().finalize_invoice(collection_of(billed).pk)
    assert api_says.status == "open"

    clock.move(days=20)
    first = collect(billed)

    assert first.suspend_at and first.suspend_at - timezone.now() > timedelta(days=2.9)


def test_a_renewals_draft_is_left_to_stripe_for_two_hours(billed, sandbox, clock):
    collect(billed)
    # While its events are refused, Stripe does not finalize a draft.
    deaf = {"url": "http://127.0.0.1:1/", "enabled_events": ["*"]}
    sandbox.client().v1.webhook_endpoints.create(deaf)
    clock.move(days=30, minutes=1)
    sandbox.advance(1, deliver=True)
    (draft,) = sandbox.client().v1.invoices.list({"status": "draft"}).data
    record_and_enqueue(Stripe().get_invoice(draft.id), billed)

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


def test_without_a_wallet_or_a_card_it_waits_for_a_person(billed):
    first = collect(billed)

    assert (first.state, first.amount_remaining_cents) == (State.MANUAL, 500)
    assert first.outcome == "waits for a person, or the next try"


def test_a_card_pays_it_once(billed, sandbox):
    attach(sandbox, billed)

    first = collect(billed)
    again = collect(billed)

    assert (first.stripe_status, first.state, first.paid_by) == (
        "paid",
        "closed",
        "card",
    )
    assert again.closed_at and CardAttempt.objects.get().state == "paid"


def test_stripes_clock_may_be_ahead_of_ours(billed, sandbox):
    attach(sandbox, billed)
    sandbox.advance(30)

    first = collect(billed)

    assert first.finalized_at and first.finalized_at > timezone.now()
    assert (first.stripe_status, first.paid_by) == ("paid", "card")


def test_the_newest_card_becomes_the_default(billed, sandbox, clock):
    attach(sandbox, billed, "pm_card_chargeCustomerFail")
    clock.move(seconds=5)
    newest = attach(sandbox, billed)

    collect(billed)

    customer = sandbox.client().v1.customers.retrieve(billed.stripe_customer_id)
    assert customer.invoice_settings.default_payment_method == newest
    assert CardAttempt.objects.get().payment_method == newest


def test_a_declined_card_is_tried_again_after_1_3_and_6_days(billed, sandbox, clock):
    attach(sandbox, billed, outcome="insufficient_funds")

    for days in (0, 0.5, 0.6, 1.8, 0.2, 3, 2, 5):
        clock.move(days=days)
        collect(billed)

    assert codes() == ["insufficient_funds"] * 4
    assert collection_of(billed).state == State.MANUAL


def test_rungs_that_nobody_was_there_for_are_not_made_up_for(billed, sandbox, clock):
    attach(sandbox, billed, outcome="insufficient_funds")
    collect(billed)

    clock.move(days=6, hours=1)
    collect(billed)
    collect(billed)

    assert len(codes()) == 2


def test_a_stolen_card_is_not_charged_again(billed, sandbox, clock):
    attach(sandbox, billed, outcome="stolen_card")
    collect(billed)

    clock.move(days=1, hours=1)
    collect(billed)

    assert codes() == ["stolen_card"]


def test_another_card_is_charged_instead_of_a_stolen_one(billed, sandbox):
    attach(sandbox, billed, outcome="stolen_card")
    collect(billed)
    attach(sandbox, billed)

    start_attempt_for_tenant(tenant_id=billed.pk, rail=Action.CARD)

    assert collect(billed).paid_by == "card"


def test_a_card_that_its_owner_must_confirm_waits_for_them(billed, sandbox):
    attach(sandbox, billed, outcome="requires_action")

    first = collect(billed)

    assert CardAttempt.objects.get().state == "action_required"
    assert first.state == State.MANUAL


def test_a_charge_without_an_answer_is_asked_for_again_and_made_once(
    billed, sandbox, clock
):
    attach(sandbox, billed)
    sandbox.fault("reset", path="/pay$", when="after", times=3)

    first = collect(billed)
    assert (first.state, first.last_error_code) == ("pending", "stripe-unavailable")
    clock.move(minutes=2)
    first = collect(billed)

    assert (first.paid_by, first.failures) == ("card", 0)
    assert CardAttempt.objects.get().state == "paid"


def test_nothing_else_begins_while_a_charge_has_no_answer(
    billed, sandbox, clock, alice, rates
):
    attach(sandbox, billed)
    sandbox.fault("status", path="/pay$", status=500, times=None)
    collect(billed)
    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)

    for _ in range(4):
        clock.move(minutes=10)
        collect(billed)
    with pytest.raises(PaymentInProgress):
        get_or_issue_bolt11(invoice_id=collection_of(billed).pk)

    assert not NwcPayment.objects.exists()
    assert CardAttempt.objects.get().state == "pending"


def test_after_a_day_the_payments_tell_what_came_of_a_charge(billed, sandbox, clock):
    attach(sandbox, billed)
    sandbox.fault("reset", path="/pay$", when="after", times=3)
    collect(billed)

    clock.move(hours=25)
    first = collect(billed)

    assert (first.paid_by, CardAttempt.objects.get().state) == ("card", "paid")


def test_after_a_day_a_charge_that_never_arrived_is_refused(billed, sandbox, clock):
    attach(sandbox, billed)
    sandbox.fault("reset", path="/pay$", times=3)
    collect(billed)

    clock.move(hours=25)
    first = collect(billed)

    assert codes() == ["not_charged", ""]
    assert first.paid_by == "card"


def test_a_card_is_not_charged_for_a_tenant_who_paused_that(billed, sandbox):
    attach(sandbox, billed)
    type(billed).objects.update(autopay_paused=True)

    first = collect(billed)

    assert (first.state, CardAttempt.objects.count()) == (State.MANUAL, 0)


def test_no_card_is_charged_before_a_subscriptions_end_is_settled(
    billed, sandbox, clock
):
    collect(billed)
    clock.move(days=15)
    attach(sandbox, billed)
    ended = billed.stripe_subscription_id
    sandbox.client().v1.subscriptions.cancel(ended)
    handle_subscription_ended(
        tenant_id=billed.pk,
        subscription_id=ended,
        found=Stripe().get_subscription(ended),
    )

    collect(billed)
    assert codes() == []
    sync_tenant(tenant_id=billed.pk)
    first = collect(billed)

    assert (first.paid_by, CardAttempt.objects.get().amount_cents) == ("card", 250)


# --- a wallet


def test_a_wallet_pays_it_once(billed, wallets, alice, rates):
    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)

    assert collect(billed).state == State.PENDING
    pay_by_wallet()
    first = collect(billed)
    collect(billed)

    assert (first.stripe_status, first.state, first.paid_by) == (
        "paid",
        "closed",
        "wallet",
    )
    assert Settlement.objects.get().marked_cents == 500
    assert len(wallets.ledger.debits("alice")) == 1


def test_while_a_wallet_is_asked_nobody_is_told_to_pay(billed, alice, rates):
    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)

    collect(billed)
    first = collect(billed)

    assert (first.state, first.next_action) == (State.PENDING, Action.CARD)
    assert not Notice.objects.exists()


def test_a_wallet_that_refuses_lets_the_card_pay(billed, sandbox, alice, rates):
    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    attach(sandbox, billed)
    collect(billed)
    pay_by_wallet()

    assert collect(billed).paid_by == "card"


def test_a_wallet_without_an_answer_keeps_the_card_waiting_until_it_is_dead(
    billed, sandbox, clock, alice, rates
):
    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INTERNAL")
    attach(sandbox, billed)
    collect(billed)
    payment = pay_by_wallet()
    assert payment.state == "pending"

    clock.move(hours=2)
    assert collect(billed).state == State.PENDING
    assert codes() == []
    clock.move(hours=1)
    check_invoice(invoice_id=payment.invoice_id)

    assert collect(billed).paid_by == "card"


def test_a_wallet_that_paid_in_silence_is_not_charged_again(
    billed, sandbox, wallets, alice, rates
):
    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)
    alice.behaviour = PAYS_WITHOUT_ANSWER
    attach(sandbox, billed)
    collect(billed)

    pay_by_wallet()
    first = collect(billed)

    assert (first.paid_by, codes()) == ("wallet", [])


def test_a_busy_wallet_is_asked_three_times_more_a_minute_apart(
    billed, sandbox, clock, alice, rates
):
    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)
    alice.behaviour = refuses("RATE_LIMITED")
    attach(sandbox, billed)
    collect(billed)
    pay_by_wallet()

    for _ in range(3):
        assert collect(billed).state == State.COLLECTING
        clock.move(seconds=61)
        collect(billed)
        pay_by_wallet()

    assert collect(billed).paid_by == "card"
    assert NwcPayment.objects.count() == 4


def test_without_a_price_the_wallet_waits_an_hour_and_then_the_card_pays(
    billed, sandbox, clock, alice, rates
):
    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)
    attach(sandbox, billed)
    rates.fault("error")

    first = collect(billed)
    assert first.last_error_code == "rate-unavailable"
    clock.move(minutes=61)

    assert collect(billed).paid_by == "card"


def test_a_new_wallet_is_tried_at_once(billed, wallets, alice, rates):
    collect(billed)

    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)
    collect(billed)
    pay_by_wallet()

    assert collect(billed).paid_by == "wallet"


def test_a_new_wallet_is_tried_when_the_attempt_under_way_has_ended(
    billed, wallets, clock, alice, rates
):
    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INTERNAL")
    collect(billed)
    payment = pay_by_wallet()

    bob = wallets.create("bob", balance_msat=10**9)
    connect_wallet(pubkey=billed.pk, nwc_url=bob.url)
    assert collect(billed).state == State.PENDING
    clock.move(hours=3)
    check_invoice(invoice_id=payment.invoice_id)
    collect(billed)
    pay_by_wallet()

    assert collect(billed).paid_by == "wallet"
    assert (wallets.ledger.debits("alice"), len(wallets.ledger.debits("bob"))) == (
        [],
        1,
    )


def test_support_may_begin_a_rung(billed, alice, rates):
    connect_wallet(pubkey=billed.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    collect(billed)
    pay_by_wallet()
    collect(billed)
    alice.behaviour = PAYS

    assert collect_now(invoice_id=collection_of(billed).pk)
    collect(billed)
    pay_by_wallet()

    assert collect(billed).paid_by == "wallet"


# --- a person


def test_a_person_pays_the_bolt11_that_they_were_shown(billed, wallets, alice, rates):
    collect(billed)
    shown = get_or_issue_bolt11(invoice_id=collection_of(billed).pk)
    wallets.ledger.pay("alice", shown.bolt11)
    check_invoice(invoice_id=shown.pk)

    first = collect(billed)

    assert (first.stripe_status, first.paid_by) == ("paid", "lightning")


def test_a_bolt11_that_is_shown_delays_a_rung_once(
    billed, sandbox, clock, wallets, rates
):
    collect(billed)
    invoice_id = collection_of(billed).pk
    clock.move(hours=23, minutes=50)
    shown = get_or_issue_bolt11(invoice_id=invoice_id)
    attach(sandbox, billed)

    clock.move(minutes=30)
    first = collect(billed)
    assert (first.state, codes()) == (State.PENDING, [])
    with pytest.raises(PaymentInProgress):
        get_or_issue_bolt11(invoice_id=invoice_id)
    clock.move(hours=3)
    check_invoice(invoice_id=shown.pk)

    assert collect(billed).paid_by == "card"


def test_nothing_is_offered_for_what_is_paid(billed, sandbox):
    attach(sandbox, billed)
    collect(billed)

    with pytest.raises(InvoiceNotOpen):
        get_or_issue_bolt11(invoice_id=collection_of(billed).pk)


def test_what_was_paid_at_stripe_before_we_saw_it_is_known_in_full(billed, sandbox):
    collect(billed)
    pay_at_stripe(sandbox, billed)
    known = collection_of(billed)
    InvoiceCollection.objects.all().delete()

    record_and_enqueue(Stripe().get_invoice(known.pk), billed)

    row = collect(billed)
    assert (row.stripe_status, row.paid_by) == ("paid", "elsewhere")
    assert (row.total_cents, row.amount_paid_cents) == (500, 500)
    assert (row.number, row.finalized_at) == (known.number, known.finalized_at)


def test_what_a_person_pays_at_stripe_closes_it(billed, sandbox):
    collect(billed)
    pay_at_stripe(sandbox, billed)

    first = collect(billed)

    assert (first.stripe_status, first.paid_by) == ("paid", "elsewhere")


# --- credit


def test_what_is_to_be_credited_is_not_charged(billed, sandbox, platform, rates):
    collect(billed)
    attach(sandbox, billed)
    record_credit(
        tenant_id=billed.pk,
        reason=Credit.Reason.UNSERVED,
        source="a week",
        currency="usd",
        amount_cents=120,
        collection_id=collection_of(billed).pk,
    )
    sandbox.fault("status", path="^/v1/credit_notes$", status=500, times=None)
    start_attempt_for_tenant(tenant_id=billed.pk, rail=Action.CARD)

    first = collect(billed)
    assert (first.state, codes()) == (State.COLLECTING, [])
    with pytest.raises(Conflict):
        get_or_issue_bolt11(invoice_id=first.pk)
    sandbox.clear_faults()
    first = collect(billed)

    assert (first.paid_by, CardAttempt.objects.get().amount_cents) == ("card", 380)


# --- money that comes too late, or is too much


@pytest.fixture
def shown(billed, wallets, alice, rates):
    """A Lightning invoice of the first invoice, which alice has paid; not yet known."""
    collect(billed)
    offered = get_or_issue_bolt11(invoice_id=collection_of(billed).pk)
    wallets.ledger.pay("alice", offered.bolt11)
    return offered


def credit() -> tuple[str, int, str]:
    found = Credit.objects.get()
    return found.reason, found.amount_cents, found.source


def test_paid_at_stripe_as_well_all_of_it_is_credit(billed, sandbox, shown):
    pay_at_stripe(sandbox, billed)
    check_invoice(invoice_id=shown.pk)

    first = collect(billed)

    assert (first.stripe_status, first.paid_by) == ("paid", "elsewhere")
    assert credit() == ("surplus", 500, shown.payment_hash)
    assert Settlement.objects.get().state == "credited"


def test_for_a_void_invoice_all_of_it_is_credit(billed, sandbox, shown):
    sandbox.client().v1.invoices.void_invoice(collection_of(billed).pk)
    check_invoice(invoice_id=shown.pk)

    first = collect(billed)

    assert (first.stripe_status, first.state) == ("void", State.CLOSED)
    assert credit() == ("surplus", 500, shown.payment_hash)


def test_an_invoice_that_was_written_off_is_paid_by_it(billed, sandbox, shown):
    sandbox.client().v1.invoices.mark_uncollectible(collection_of(billed).pk)
    check_invoice(invoice_id=shown.pk)

    first = collect(billed)

    assert (first.stripe_status, first.paid_by) == ("paid", "lightning")
    assert not Credit.objects.exists()


def test_what_a_credit_note_has_taken_off_is_credit(billed, sandbox, shown):
    note = {"invoice": collection_of(billed).pk, "amount": 120}
    sandbox.client().v1.credit_notes.create(note)
    check_invoice(invoice_id=shown.pk)

    first = collect(billed)

    assert (first.stripe_status, Settlement.objects.get().marked_cents) == ("paid", 380)
    assert credit() == ("surplus", 120, shown.payment_hash)


def test_what_came_on_top_is_credit(billed, shown):
    check_invoice(invoice_id=shown.pk)
    type(shown).objects.update(received_msat=shown.amount_msat * 11 // 10)

    collect(billed)

    assert credit() == ("surplus", 50, shown.payment_hash)


@pytest.mark.parametrize("path", ["invoices/in_[A-Za-z0-9]+$", "/pay$", "payments$"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_whatever_call_is_lost_the_payment_is_booked_once(
    billed, sandbox, clock, shown, path, when
):
    check_invoice(invoice_id=shown.pk)
    sandbox.fault("reset", method=None, path=path, when=when, times=3)

    collect(billed)
    sandbox.clear_faults()
    clock.move(minutes=2)
    first = collect(billed)

    assert (first.stripe_status, first.paid_by) == ("paid", "lightning")
    assert Settlement.objects.get().marked_cents == 500
    assert not Credit.objects.exists()


def test_what_was_paid_unheard_of_switches_no_relay_off(billed, sandbox, clock):
    collect(billed)
    clock.move(days=7, minutes=-20)
    collect(billed)
    pay_at_stripe(sandbox, billed)

    # No webhook comes, but beat ticks.
    for _ in range(3):
        clock.move(minutes=10)
        for invoice_id in InvoiceCollection.objects.working().claim(now=timezone.now()):
            collect_invoice(invoice_id=invoice_id)
        for tenant_id in tenants_to_review(timezone.now()):
            review_tenant(tenant_id=tenant_id)

    assert collection_of(billed).state == State.CLOSED
    assert billed.relays.get().status == "active"
    assert not Notice.objects.filter(kind="suspended").exists()
