"""Bank payments and 3D Secure challenges at Stripe: nothing else pays meanwhile."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.clients.stripe.invoices import Invoices
from billing.exceptions import Bolt11NotOpen
from billing.models import Credit, InvoiceCollection, Settlement
from billing.services.collection import attempts
from billing.services.collection.attempts import collect_now
from billing.services.credits.posting import post_credits
from billing.services.dunning.notices import notify_invoice_due
from billing.services.dunning.suspension import review_tenant, tenants_to_review
from billing.services.invoice_views.invoices import get_invoice
from billing.services.invoices import locks
from billing.services.invoices.records import read_invoice, record_invoice, revision_of
from billing.services.payment_page.bolt11 import current_bolt11, get_or_issue_bolt11
from billing.tests.support.collection import (
    attach,
    card_codes,
    collect,
    collection_of,
    control,
    deliver_last,
    pay_at_stripe,
    pay_by_wallet,
    run_before,
)
from billing.tests.support.credits import owe
from lightning.exceptions import PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment
from lightning.services.invoice_status import check_invoice
from lightning.services.wallets import connect_wallet
from relays.models import Relay
from tenants.models import Notice

pytestmark = pytest.mark.django_db

State = InvoiceCollection.State
ENDLESS = "pm_usBankAccount_processing"
CHALLENGED = "pm_card_authenticationRequired"
BANK = "A bank payment is in progress."
CONFIRMING = "A card payment is being confirmed."


def settle(sandbox, intent, outcome):
    control(sandbox, f"payment_intents/{intent}/settle", outcome=outcome)


def authenticate(sandbox, intent, outcome):
    control(sandbox, f"payment_intents/{intent}/authenticate", outcome=outcome)


def captured(sandbox):
    intents = sandbox.client().v1.payment_intents.list().data
    return sum(each.amount_received for each in intents)


@pytest.fixture
def debit(subscriber, sandbox):
    """The PaymentIntent of a bank payment of the only invoice; Caravel has seen it."""
    collect(subscriber)
    intent = pay_at_stripe(sandbox, subscriber, ENDLESS)
    deliver_last(sandbox, "payment_intent.processing")
    collect(subscriber)
    return intent


# --- a bank payment: no other payment


def test_event_of_a_bank_payment_reads_the_invoice(subscriber, sandbox):
    collect(subscriber)
    pay_at_stripe(sandbox, subscriber, ENDLESS)

    event = deliver_last(sandbox, "payment_intent.processing")

    assert event.outcome == "a payment may be in progress: 1 collections enqueued"
    first = collect(subscriber)
    assert (first.intent_status, first.state) == ("processing", State.PENDING)
    assert first.outcome == BANK


@pytest.mark.parametrize("is_reported", [True, False])
def test_wallet_is_not_asked_during_a_bank_payment(
    subscriber, sandbox, clock, alice, rates, is_reported
):
    collect(subscriber)
    pay_at_stripe(sandbox, subscriber, ENDLESS)
    if is_reported:
        deliver_last(sandbox, "payment_intent.processing")
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)

    for _ in range(4):
        first = collect(subscriber)
        clock.move(days=1, hours=1)

    assert (first.state, first.outcome) == (State.PENDING, BANK)
    assert not NwcPayment.objects.exists()


def test_card_is_not_charged_during_a_bank_payment(subscriber, sandbox, clock, debit):
    attach(sandbox, subscriber)
    clock.move(days=1, hours=1)

    assert collect(subscriber).outcome == BANK
    collect_now(invoice_id=collection_of(subscriber).pk)
    assert collect(subscriber).outcome == BANK
    assert card_codes() == []


def test_wallet_and_card_are_tried_after_the_bank_payment_failed(
    subscriber, sandbox, clock, debit
):
    attach(sandbox, subscriber)
    clock.move(days=1, hours=1)
    collect(subscriber)

    settle(sandbox, debit, "failed")
    deliver_last(sandbox, "invoice.payment_failed")
    first = collect(subscriber)

    assert (first.paid_by, first.intent_status) == ("card", "")
    assert captured(sandbox) == 500


def test_end_of_a_bank_payment_is_found_within_six_hours_without_an_event(
    subscriber, sandbox, clock, debit
):
    settle(sandbox, debit, "succeeded")
    clock.move(hours=6)

    due = InvoiceCollection.objects.working().claim(now=timezone.now())

    assert due == [collection_of(subscriber).pk]
    first = collect(subscriber)
    assert (first.state, first.paid_by) == (State.CLOSED, "elsewhere")


def test_no_bolt11_during_a_bank_payment(subscriber, own_wallet, rates, debit):
    with pytest.raises(PaymentInProgress, match=BANK):
        get_or_issue_bolt11(invoice_id=collection_of(subscriber).pk)

    assert not LightningInvoice.objects.filter(shown_at__isnull=False).exists()


def test_presented_bolt11_is_withdrawn_when_a_bank_payment_starts(
    subscriber, sandbox, own_wallet, rates
):
    collect(subscriber)
    invoice_id = collection_of(subscriber).pk
    get_or_issue_bolt11(invoice_id=invoice_id)
    pay_at_stripe(sandbox, subscriber, ENDLESS)
    deliver_last(sandbox, "payment_intent.processing")
    collect(subscriber)

    with pytest.raises(PaymentInProgress, match=BANK):
        get_or_issue_bolt11(invoice_id=invoice_id)
    with pytest.raises(Bolt11NotOpen):
        current_bolt11(invoice_id)


def test_credit_waits_for_the_end_of_a_bank_payment(subscriber, sandbox, debit):
    invoice_id = collection_of(subscriber).pk
    owe(subscriber, 120, Credit.Reason.UNSERVED, "a week", invoice_id)

    post_credits(tenant_id=subscriber.pk)
    assert Credit.objects.owed().exists()
    settle(sandbox, debit, "failed")
    collect(subscriber)
    Credit.objects.update(next_attempt_at=timezone.now())
    post_credits(tenant_id=subscriber.pk)

    assert not Credit.objects.owed().exists()
    assert collect(subscriber).amount_remaining_cents == 380


@pytest.mark.parametrize(
    ("outcome", "settlement", "paid_by", "credited"),
    [("succeeded", "credited", "elsewhere", 500), ("failed", "marked", "lightning", 0)],
)
def test_lightning_payment_during_a_bank_payment_is_booked_afterwards(
    subscriber,
    sandbox,
    clock,
    wallets,
    alice,
    rates,
    outcome,
    settlement,
    paid_by,
    credited,
):
    collect(subscriber)
    bolt11 = get_or_issue_bolt11(invoice_id=collection_of(subscriber).pk)
    intent = pay_at_stripe(sandbox, subscriber, ENDLESS)
    wallets.ledger.pay("alice", bolt11.bolt11)
    check_invoice(invoice_id=bolt11.pk)

    first = collect(subscriber)
    assert (first.state, first.outcome) == (State.PENDING, BANK)
    assert first.next_attempt_at > timezone.now() + timedelta(minutes=30)
    assert not Settlement.objects.exists()
    settle(sandbox, intent, outcome)
    first = collect(subscriber)

    assert (Settlement.objects.get().state, first.paid_by) == (settlement, paid_by)
    assert sum(Credit.objects.values_list("amount_cents", flat=True)) == credited


# --- a bank payment: no suspension


def relay_status(tenant):
    return Relay.objects.get(tenant=tenant).status


def test_relays_stay_on_during_a_bank_payment_that_started_in_time(
    subscriber, sandbox, clock, debit
):
    suspend_at = collection_of(subscriber).suspend_at
    clock.move(days=8)

    assert tenants_to_review(timezone.now()) == []
    review_tenant(tenant_id=subscriber.pk)
    assert relay_status(subscriber) == "active"
    assert collection_of(subscriber).suspend_at == suspend_at

    settle(sandbox, debit, "failed")
    collect(subscriber)
    assert relay_status(subscriber) == "delinquent"


def test_bank_payment_whose_event_was_lost_is_seen_before_the_grace_period_ends(
    subscriber, sandbox, clock
):
    for days in (0, 1, 2, 3.5):
        clock.move(days=days, minutes=5)
        collect(subscriber)
    pay_at_stripe(sandbox, subscriber, ENDLESS)

    for _ in range(4):
        clock.move(hours=3)
        if InvoiceCollection.objects.working().claim(now=timezone.now()):
            collect(subscriber)
    review_tenant(tenant_id=subscriber.pk)

    row = collection_of(subscriber)
    assert row.suspend_at and row.suspend_at < timezone.now()
    assert relay_status(subscriber) == "active"


def test_bank_payment_after_the_suspension_does_not_switch_relays_on(
    subscriber, sandbox, clock
):
    """Otherwise every debit that fails would buy some days."""
    collect(subscriber)
    clock.move(days=7, hours=1)
    review_tenant(tenant_id=subscriber.pk)
    intent = pay_at_stripe(sandbox, subscriber, ENDLESS)
    collect(subscriber)
    assert relay_status(subscriber) == "delinquent"

    settle(sandbox, intent, "succeeded")
    collect(subscriber)
    assert relay_status(subscriber) == "active"


def test_nobody_is_asked_to_pay_during_a_bank_payment(
    subscriber, sandbox, clock, debit
):
    Notice.objects.all().delete()
    notify_invoice_due(collection_of(subscriber))

    for _ in range(14):
        clock.move(hours=12)
        collect(subscriber)

    states = set(Notice.objects.values_list("kind", "state"))
    assert states == {("invoice_due", "dropped")}
    subscriber.refresh_from_db()
    assert subscriber.past_due_at is None


def test_tenant_is_reminded_after_the_bank_payment_failed(
    subscriber, sandbox, clock, debit
):
    clock.move(days=6, hours=1)
    collect(subscriber)

    settle(sandbox, debit, "failed")
    collect(subscriber)

    assert Notice.objects.filter(kind="reminder_1").exists()


# --- a 3D Secure challenge


@pytest.fixture
def challenge(subscriber, sandbox, clock):
    """A person is at this challenge (its PaymentIntent), ten minutes before a try."""
    collect(subscriber)
    clock.move(hours=23, minutes=50)
    return pay_at_stripe(sandbox, subscriber, CHALLENGED)


def test_no_card_replaces_a_challenge_that_a_person_is_at(
    subscriber, sandbox, clock, challenge
):
    attach(sandbox, subscriber)
    clock.move(minutes=11)

    first = collect(subscriber)
    assert (first.state, first.outcome) == (State.PENDING, CONFIRMING)
    authenticate(sandbox, challenge, "succeeded")
    first = collect(subscriber)

    assert (first.paid_by, card_codes(), captured(sandbox)) == ("elsewhere", [], 500)


def test_wallet_is_not_asked_while_a_person_is_at_a_challenge(
    subscriber, clock, alice, rates, challenge
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)

    assert collect(subscriber).outcome == CONFIRMING
    assert not NwcPayment.objects.exists()


def test_card_is_charged_an_hour_after_a_challenge_was_abandoned(
    subscriber, sandbox, clock, challenge
):
    attach(sandbox, subscriber)
    deliver_last(sandbox, "payment_intent.requires_action")
    blocked = collect(subscriber)
    assert blocked.next_attempt_at - timezone.now() <= timedelta(hours=1)

    clock.move(minutes=61)
    (invoice_id,) = InvoiceCollection.objects.working().claim(now=timezone.now())

    assert invoice_id == blocked.pk
    assert collect(subscriber).paid_by == "card"
    assert captured(sandbox) == 500


def test_card_is_charged_at_once_when_a_challenge_fails(
    subscriber, sandbox, clock, challenge
):
    attach(sandbox, subscriber)
    clock.move(minutes=11)
    collect(subscriber)

    authenticate(sandbox, challenge, "failed")
    deliver_last(sandbox, "invoice.payment_failed")

    assert collect(subscriber).paid_by == "card"


def test_second_challenge_has_an_hour_of_its_own(subscriber, sandbox, clock, challenge):
    collect(subscriber)
    clock.move(minutes=50)
    pay_at_stripe(sandbox, subscriber, CHALLENGED)
    collect(subscriber)
    clock.move(minutes=20)

    assert collect(subscriber).outcome == CONFIRMING


def test_challenge_of_our_own_charge_holds_nothing_back(
    subscriber, sandbox, own_wallet, rates
):
    """Nobody is at it: the tenant is asked to confirm, or to pay in another way."""
    attach(sandbox, subscriber, outcome="requires_action")
    first = collect(subscriber)

    assert (first.state, first.intent_status) == (State.MANUAL, "")
    assert get_or_issue_bolt11(invoice_id=first.pk).amount_cents == 500


# --- races


def test_wallet_is_not_asked_if_a_bank_payment_has_just_started(
    subscriber, sandbox, alice, rates, monkeypatch
):
    """Another worker has read it since this one has looked."""
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)

    def start_debit():
        pay_at_stripe(sandbox, subscriber, ENDLESS)
        read_invoice(Stripe(), collection_of(subscriber).pk, subscriber)

    run_before(monkeypatch, attempts, "issue_for_wallet", start_debit)
    collect(subscriber)

    assert collect(subscriber).outcome == BANK
    assert not NwcPayment.objects.exists()


def test_card_charge_after_a_bank_payment_has_just_started_leaves_the_debit_alone(
    subscriber, sandbox, clock, monkeypatch
):
    collect(subscriber)
    attach(sandbox, subscriber)
    run_before(
        monkeypatch,
        Invoices,
        "pay",
        lambda: pay_at_stripe(sandbox, subscriber, ENDLESS),
    )
    clock.move(days=1, hours=1)

    first = collect(subscriber)

    assert (first.state, first.outcome) == (State.PENDING, BANK)
    assert card_codes() == ["payment_intent_unexpected_state"]
    assert not Notice.objects.filter(kind="payment_failed").exists()


def test_older_answer_without_the_bank_payment_is_read_again(
    subscriber, sandbox, monkeypatch
):
    """Two workers read the invoice, one just before and one just after it started."""
    collect(subscriber)
    row = collection_of(subscriber)
    earlier = Stripe().invoices.get(row.pk)
    pay_at_stripe(sandbox, subscriber, ENDLESS)
    InvoiceCollection.objects.update(number="")

    real = Invoices.get

    def record_earlier(self, invoice_id):
        invoice = real(self, invoice_id)
        monkeypatch.setattr(Invoices, "get", real)
        since = revision_of(invoice_id)
        record_invoice(invoice=earlier, tenant=subscriber, since=since)
        return invoice

    monkeypatch.setattr(Invoices, "get", record_earlier)
    read_invoice(Stripe(), row.pk, subscriber)

    assert collection_of(subscriber).intent_status == "processing"


def test_listed_invoice_without_payments_does_not_end_the_block(subscriber, debit):
    row = collection_of(subscriber)
    (listed,) = Stripe().invoices.list(customer=row.stripe_customer_id)

    record_invoice(invoice=listed, tenant=subscriber, since=row.revision)

    blocker = locks.payment_blocker(row.pk)
    assert blocker and blocker.reason == BANK


def test_wallet_payment_from_before_the_bank_payment_is_counted(
    subscriber, sandbox, wallets, alice, rates
):
    """It cannot be stopped: the surplus becomes credit."""
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    collect(subscriber)
    intent = pay_at_stripe(sandbox, subscriber, ENDLESS)
    pay_by_wallet()
    settle(sandbox, intent, "succeeded")

    collect(subscriber)

    assert Settlement.objects.get().state == "credited"
    assert Credit.objects.get().amount_cents == 500


# --- what the payer sees


def test_api_says_that_a_bank_payment_is_in_progress(subscriber, debit):
    collection = get_invoice(collection_of(subscriber).pk).collection

    assert collection and collection.waiting
    assert collection.waiting == locks.Blocker(BANK)
