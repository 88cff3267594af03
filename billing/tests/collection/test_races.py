"""Concurrent workers, crashes and payments at Stripe: money is counted once."""

import threading

import pytest
from django.db import connection
from django.utils import timezone

from billing.clients.stripe.client import Card, Stripe
from billing.clients.stripe.invoices import Invoices
from billing.exceptions import InvoiceChanged
from billing.models import CardAttempt, Credit, InvoiceCollection, Settlement
from billing.services.collection import attempts, cards, settlements
from billing.services.collection import collect as collection
from billing.services.collection.attempts import collect_now, start_attempt_for_tenant
from billing.services.collection.collect import collect_invoice
from billing.services.credits.posting import post_credit, post_credits
from billing.services.invoice_views.receipts import build_receipt
from billing.services.invoices import locks
from billing.services.invoices.records import (
    read_invoice,
    record_and_enqueue,
    record_invoice,
    revision_of,
)
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
from billing.services.stripe_writes import writes
from billing.services.subscriptions.ended import handle_subscription_ended
from billing.tests.support.collection import (
    attach,
    card_codes,
    collect,
    collection_of,
    pay_by_wallet,
    pay_in_part,
    run_before,
    stripe_invoice,
)
from billing.tests.support.credits import owe
from billing.tests.support.subscriptions import rewrite_subscription
from billing.tests.support.threads import in_threads
from billing.tests.support.workers import Killed
from caravel.tests.support.waiting import join, wait_until
from lightning.exceptions import PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment
from lightning.services.invoice_status import check_invoice
from lightning.services.wallets import connect_wallet
from sandbox.wallets.behaviour import refuses
from tenants.models import Notice
from tenants.services.tenants import set_wallet

pytestmark = pytest.mark.django_db

Action = InvoiceCollection.Action


@pytest.fixture
def unbooked_payment(invoice, wallets, alice, rates):
    """A Lightning payment of the first invoice that is not booked yet."""
    bolt11 = get_or_issue_bolt11(invoice_id=invoice.pk)
    wallets.ledger.pay("alice", bolt11.bolt11)
    check_invoice(invoice_id=bolt11.pk)
    return bolt11


# --- booking


def test_payment_just_credited_by_another_worker_marks_nothing(
    subscriber, sandbox, unbooked_payment, monkeypatch
):
    """The payment is worth less than the invoice: all of it becomes credit."""
    type(unbooked_payment).objects.filter(pk=unbooked_payment.pk).update(
        amount_cents=400
    )
    real = settlements._reserve_invoice

    def book_first(collection, payment, invoice):
        monkeypatch.setattr(settlements, "_reserve_invoice", real)
        settlements.book_next(Stripe(), collection, invoice)
        return real(collection, payment, invoice)

    monkeypatch.setattr(settlements, "_reserve_invoice", book_first)
    collect(subscriber)

    assert Settlement.objects.get().state == "credited"
    assert Credit.objects.get().amount_cents == 400
    assert stripe_invoice(sandbox, subscriber).status == "open"


def test_rest_of_a_partial_card_payment_is_marked(
    subscriber, sandbox, unbooked_payment
):
    pay_in_part(sandbox, subscriber, 200)

    first = collect(subscriber)

    assert (first.stripe_status, first.paid_by) == ("paid", "lightning")
    assert Settlement.objects.get().marked_cents == 300
    assert Credit.objects.get().amount_cents == 200


def test_payment_that_arrives_while_the_collection_closes_is_booked(
    subscriber, sandbox, wallets, alice, rates, clock, monkeypatch
):
    """The run that the payment enqueued fails; the one that closes missed it."""
    collect(subscriber)
    invoice_id = collection_of(subscriber).pk
    bolt11 = get_or_issue_bolt11(invoice_id=invoice_id)
    sandbox.client().v1.invoices.void_invoice(invoice_id)

    def arrive():
        wallets.ledger.pay("alice", bolt11.bolt11)
        check_invoice(invoice_id=bolt11.pk)
        sandbox.fault("status", method="GET", times=3)
        collect(subscriber)

    run_before(monkeypatch, collection, "_record_wait", arrive)
    collect(subscriber)
    clock.move(minutes=6)
    for due in InvoiceCollection.objects.working().claim(now=timezone.now()):
        collect_invoice(invoice_id=due)

    assert Credit.objects.get().amount_cents == 500


def has_waiting_lock() -> bool:
    with connection.cursor() as cursor:
        # pg_locks, since pg_stat_activity does not change within a transaction.
        cursor.execute("select 1 from pg_locks where not granted")
        return cursor.fetchone() is not None


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
@pytest.mark.parametrize("event", ["a subscription ends", "a wallet is connected"])
def test_booking_does_not_deadlock_with_a_worker_that_locks_the_tenant(
    subscriber, sandbox, unbooked_payment, alice, monkeypatch, event
):
    """The new credit refers to the tenant, whose row the other worker has locked."""
    type(unbooked_payment).objects.filter(pk=unbooked_payment.pk).update(
        amount_cents=400
    )
    subscription = subscriber.stripe_subscription_id
    rewrite_subscription(sandbox, subscription, status="unpaid")
    unpaid = Stripe().subscriptions.get(subscription)
    actions = {
        "a subscription ends": lambda: handle_subscription_ended(
            tenant_id=subscriber.pk, subscription=unpaid
        ),
        "a wallet is connected": lambda: set_wallet(
            pubkey=subscriber.pk, nwc_url=alice.url
        ),
    }
    errors = []

    def act():
        errors.extend(in_threads(1, actions[event]))

    other = threading.Thread(target=act)

    def start_other_and_wait():
        other.start()
        wait_until(has_waiting_lock)

    run_before(monkeypatch, settlements, "_record_surplus", start_other_and_wait)
    collect(subscriber)
    join(other)

    assert errors == []
    assert Credit.objects.get().amount_cents == 400


@pytest.mark.parametrize(
    ("currency", "cents"), [("usd", 50_525), ("isk", 50_500), ("kwd", 50_520)]
)
def test_overpayment_is_rounded_down_to_the_charge_increment(currency, cents):
    payment = LightningInvoice(
        currency=currency,
        amount_cents=50_000,
        amount_msat=1_000_000,
        received_msat=1_010_500,
    )

    assert settlements.value_cents(payment) == cents


def test_invoice_is_recorded_as_paid_before_its_payment_is_booked(
    subscriber, unbooked_payment, monkeypatch
):
    """Otherwise another worker could charge it in between."""
    statuses = []
    run_before(
        monkeypatch,
        settlements,
        "_record_booked",
        lambda: statuses.append(collection_of(subscriber).stripe_status),
    )

    collect(subscriber)

    assert statuses == ["paid"]


@pytest.fixture
def partly_paid_invoice(subscriber, invoice, sandbox, wallets, alice, rates):
    """An invoice whose amount was raised after its Lightning payment.

    The payment became credit and reduced it: a part is still to be paid.
    """
    api, invoice_id = sandbox.client().v1, invoice.pk
    note = api.credit_notes.create({"invoice": invoice_id, "amount": 120})
    bolt11 = get_or_issue_bolt11(invoice_id=invoice_id)
    api.credit_notes.void_credit_note(note.id)
    wallets.ledger.pay("alice", bolt11.bolt11)
    check_invoice(invoice_id=bolt11.pk)
    collect(subscriber)
    post_credits(tenant_id=subscriber.pk)
    collect(subscriber)
    assert stripe_invoice(sandbox, subscriber).amount_remaining == 120
    return invoice_id


def test_wallet_can_pay_the_rest_after_a_partial_lightning_payment(
    subscriber, alice, partly_paid_invoice
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    collect(subscriber)
    pay_by_wallet()

    assert collect(subscriber).paid_by == "wallet"
    assert Settlement.objects.get(state="marked").marked_cents == 120


def test_payer_can_pay_the_rest_after_a_partial_lightning_payment(partly_paid_invoice):
    assert get_or_issue_bolt11(invoice_id=partly_paid_invoice).amount_cents == 120


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_ten_concurrent_clicks_present_one_bolt11(subscriber, own_wallet, rates):
    collect(subscriber)
    invoice_id = collection_of(subscriber).pk
    presented = set()

    def click():
        presented.add(get_or_issue_bolt11(invoice_id=invoice_id).pk)

    assert in_threads(10, click) == []
    assert presented == {LightningInvoice.objects.get().pk}


# --- concurrent attempts


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (attempts, "_wait_for_next_attempt"),
        (attempts, "_pay_by_wallet"),
        (attempts, "_charge_card"),
        (cards, "start_attempt"),
    ],
)
def test_step_taken_by_another_worker_is_not_taken_again(
    subscriber, sandbox, monkeypatch, owner, name
):
    attach(sandbox, subscriber, outcome="insufficient_funds")
    run_before(monkeypatch, owner, name, lambda: collect(subscriber))

    first = collect(subscriber)

    assert card_codes() == ["insufficient_funds"]
    assert (first.state, first.next_action) == ("manual", "")


def test_wallet_tried_by_another_worker_is_not_tried_again(
    subscriber, alice, rates, monkeypatch
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")

    def finish_wallet_attempt():
        collect(subscriber)
        pay_by_wallet()
        collect(subscriber)

    run_before(monkeypatch, attempts, "issue_for_wallet", finish_wallet_attempt)
    collect(subscriber)

    assert NwcPayment.objects.count() == 1


def test_card_attached_while_another_is_chosen_is_charged_next(
    subscriber, sandbox, monkeypatch
):
    attach(sandbox, subscriber, "pm_card_chargeCustomerFail", outcome="")

    def attach_another():
        api, customer = sandbox.client().v1, subscriber.stripe_customer_id
        card = attach(sandbox, subscriber, outcome="")
        settings = {"default_payment_method": card}
        api.customers.update(customer, {"invoice_settings": settings})
        start_attempt_for_tenant(tenant_id=subscriber.pk, first=Action.CARD)

    run_before(monkeypatch, cards, "start_attempt", attach_another)

    assert collect(subscriber).paid_by == "card"
    assert card_codes() == [""]


# --- answers from Stripe that are older than the record


def run_after_fetch(monkeypatch, work):
    """Run something once, just after an invoice was fetched from Stripe."""
    real = Invoices.get

    def fetch_first(self, invoice_id):
        invoice = real(self, invoice_id)
        monkeypatch.setattr(Invoices, "get", real)
        work()
        return invoice

    monkeypatch.setattr(Invoices, "get", fetch_first)


@pytest.fixture
def charge(subscriber, sandbox):
    """Another worker's charge, which succeeds; the worker does nothing after it."""
    card = attach(sandbox, subscriber)
    Stripe().invoices.finalize(collection_of(subscriber).pk)
    read_invoice(Stripe(), collection_of(subscriber).pk, subscriber)
    InvoiceCollection.objects.update(
        next_action=Action.CARD,
        attempts_started=1,
        attempt_started_at=timezone.now(),
    )

    def charge_card():
        attempt = cards.start_attempt(
            collection_of(subscriber), Card(card, created=0), then=Action.NOTICE
        )
        cards.run_attempt(Stripe(), attempt)

    return charge_card


def test_no_notice_when_another_worker_has_just_charged_the_card(
    subscriber, charge, monkeypatch
):
    run_after_fetch(monkeypatch, charge)

    first = collect(subscriber)

    assert first.paid_by == "card"
    assert not Notice.objects.exists()


def test_no_wallet_payment_when_another_worker_has_just_charged_the_card(
    subscriber, charge, alice, rates, monkeypatch
):
    def charge_and_connect():
        charge()
        connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
        start_attempt_for_tenant(tenant_id=subscriber.pk, first=Action.WALLET)

    run_after_fetch(monkeypatch, charge_and_connect)

    first = collect(subscriber)

    assert first.paid_by == "card"
    assert not NwcPayment.objects.exists()


def die():
    raise Killed


@pytest.mark.parametrize("name", ["record_invoice", "_resolve"])
def test_card_is_charged_once_when_the_worker_is_killed_after_the_charge(
    subscriber, sandbox, charge, monkeypatch, name
):
    """The repeated request is for the same charge."""
    run_before(monkeypatch, cards, name, die)
    with pytest.raises(Killed):
        charge()
    CardAttempt.objects.update(tried_at=None)

    first = collect(subscriber)

    assert (first.state, first.paid_by, card_codes()) == ("closed", "card", [""])
    payment_intents = sandbox.client().v1.payment_intents.list().data
    assert [each.amount_received for each in payment_intents] == [500]
    assert not Notice.objects.exists()


def test_charge_looked_up_after_a_day_records_the_invoice_as_paid(
    subscriber, charge, clock
):
    charge()
    InvoiceCollection.objects.update(stripe_status="open", paid_by="")
    CardAttempt.objects.update(state="pending", resolved_at=None)
    clock.move(hours=25)

    cards.run_attempt(Stripe(), CardAttempt.objects.get())

    assert CardAttempt.objects.get().state == "paid"
    assert collection_of(subscriber).stripe_status == "paid"


def test_wallet_pays_only_the_remaining_amount_after_a_credit(
    subscriber, alice, rates, monkeypatch
):
    collect(subscriber)
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    start_attempt_for_tenant(tenant_id=subscriber.pk, first=Action.WALLET)
    owe(subscriber, 120)
    run_after_fetch(monkeypatch, lambda: post_credits(tenant_id=subscriber.pk))

    collect(subscriber)

    assert LightningInvoice.objects.get().amount_cents == 380
    pay_by_wallet()
    assert collect(subscriber).paid_by == "wallet"
    assert not Credit.objects.owed().exists()


def test_remaining_amount_is_recorded_before_a_credit_stops_blocking(
    subscriber, monkeypatch
):
    collect(subscriber)
    owe(subscriber, 120)
    amounts = []

    def look():
        amounts.append(collection_of(subscriber).amount_remaining_cents)

    run_before(monkeypatch, writes.Write, "complete", look)
    post_credits(tenant_id=subscriber.pk)

    assert amounts == [380]


def test_older_event_does_not_restore_the_amount_before_a_credit(subscriber):
    collect(subscriber)
    row = collection_of(subscriber)
    earlier = Stripe().invoices.get(row.pk)
    owe(subscriber, 120)
    post_credits(tenant_id=subscriber.pk)

    recorded = record_and_enqueue(earlier, subscriber, since=row.revision)

    assert recorded and recorded.amount_remaining_cents == 380
    assert collection_of(subscriber).enqueued_at


def test_invoice_that_keeps_changing_is_retried_later(subscriber, sandbox, monkeypatch):
    collect(subscriber)
    row, real = collection_of(subscriber), Invoices.get

    def fetch_first(self, invoice_id):
        invoice = real(self, invoice_id)
        api = sandbox.client().v1
        api.credit_notes.create({"invoice": invoice_id, "amount": 10})
        since = revision_of(invoice_id)
        reduced = real(self, invoice_id)
        record_invoice(invoice=reduced, tenant=subscriber, since=since)
        return invoice

    monkeypatch.setattr(Invoices, "get", fetch_first)

    with pytest.raises(InvoiceChanged):
        read_invoice(Stripe(), row.pk, subscriber)
    # Five reads, each followed by another credit note of 10.
    assert collection_of(subscriber).amount_remaining_cents == 450
    assert collect(subscriber).last_error_code == "invoice-changed"


@pytest.mark.parametrize(
    "columns",
    [{"stripe_status": "void"}, {"stripe_status": "paid", "amount_paid_cents": 7}],
)
def test_invoice_recorded_as_final_is_closed_although_stripe_differs(
    subscriber, columns
):
    """This should not happen, but closing is better than retrying for ever."""
    collect(subscriber)
    InvoiceCollection.objects.update(**columns)

    closed = collect(subscriber)

    assert (closed.stripe_status, closed.state) == (columns["stripe_status"], "closed")
    assert closed.last_error == ""


# --- requests that Stripe always refuses


def sweep():
    """Run the work that beat enqueues each minute."""
    now = timezone.now()
    for invoice_id in InvoiceCollection.objects.working().claim(now=now):
        collect_invoice(invoice_id=invoice_id)
    for credit_id in Credit.objects.owed().claim(now=now):
        post_credit(credit_id=credit_id)


def test_credit_that_is_always_refused_is_retried_less_and_less_often(
    subscriber, sandbox, clock
):
    collect(subscriber)
    owe(subscriber, 120, Credit.Reason.UNSERVED, "a week", collection_of(subscriber).pk)
    sandbox.fault("status", path="^/v1/credit_notes$", status=400, times=None)
    collect_now(invoice_id=collection_of(subscriber).pk)

    for _ in range(60):
        clock.move(minutes=1)
        sweep()

    assert 0 < len(sandbox.requests("POST", "/v1/credit_notes")) < 40


# --- a charge that another worker has just started


def start_charge(tenant):
    """Record a charge as another worker does, without sending it."""
    row = collection_of(tenant)
    return cards.start_attempt(row, Card("pm_other", created=0), then=Action.NOTICE)


def test_payment_is_not_booked_while_a_charge_is_pending(
    subscriber, sandbox, unbooked_payment, monkeypatch
):
    LightningInvoice.objects.update(state="expired", settled_at=None, shown_at=None)
    attempt = start_charge(subscriber)
    LightningInvoice.objects.update(
        state="settled", settled_at=timezone.now(), shown_at=timezone.now()
    )
    # This worker has looked for pending charges before that one started.
    monkeypatch.setattr(collection, "_STEPS", collection._STEPS[1:])

    row = collect(subscriber)

    assert (row.state, row.outcome) == (
        "pending",
        "A card payment is in progress.",
    )
    assert not Settlement.objects.exists()
    assert stripe_invoice(sandbox, subscriber).status == "open"
    assert attempt.state == "pending"


def test_collection_is_not_closed_while_a_charge_is_pending(
    subscriber, sandbox, monkeypatch
):
    collect(subscriber)
    start_charge(subscriber)
    invoice_id = collection_of(subscriber).pk
    sandbox.client().v1.invoices.pay(invoice_id, {"paid_out_of_band": True})
    monkeypatch.setattr(collection, "_STEPS", collection._STEPS[1:])

    assert collect(subscriber).state == "pending"
    monkeypatch.undo()
    assert collect(subscriber).state == "closed"
    assert card_codes() != [""]


# --- a payment that has just arrived


def pay_by_hand(bolt11, alice):
    alice.pay(bolt11.bolt11)
    check_invoice(invoice_id=bolt11.pk)


def test_no_card_charge_when_a_payment_arrives_while_the_card_is_chosen(
    subscriber, sandbox, alice, rates, monkeypatch
):
    attach(sandbox, subscriber)
    row = collection_of(subscriber)
    record_and_enqueue(
        Stripe().invoices.finalize(row.pk), subscriber, since=row.revision
    )
    bolt11 = get_or_issue_bolt11(invoice_id=row.pk)
    InvoiceCollection.objects.update(next_action=Action.CARD, attempts_started=1)
    run_before(
        monkeypatch,
        attempts,
        "_wait_for_pending_payment",
        lambda: pay_by_hand(bolt11, alice),
    )

    collect(subscriber)
    collect(subscriber)

    assert not CardAttempt.objects.exists()
    assert Settlement.objects.get().state == "marked"
    assert not Credit.objects.exists()


def test_no_card_charge_when_a_payment_settles_during_the_blocker_queries(
    subscriber, sandbox, alice, rates, monkeypatch
):
    """The bolt11 is live when the blockers are queried, and settled a moment later."""
    attach(sandbox, subscriber)
    row = collection_of(subscriber)
    record_and_enqueue(
        Stripe().invoices.finalize(row.pk), subscriber, since=row.revision
    )
    bolt11 = get_or_issue_bolt11(invoice_id=row.pk)
    alice.pay(bolt11.bolt11)
    now = timezone.now()

    def settle():
        """Settle the invoice, as another worker commits it."""
        LightningInvoice.objects.update(state="settled", settled_at=now)

    run_before(monkeypatch, locks, "live_payment", settle)

    with pytest.raises(PaymentInProgress):
        cards.start_attempt(
            collection_of(subscriber), Card("pm_1", created=0), then=Action.NOTICE
        )


def test_no_reduction_of_the_paid_amount_before_the_payment_is_booked(
    subscriber, sandbox, unbooked_payment
):
    receipt = build_receipt(collection_of(subscriber).pk)
    owe(subscriber, 120)
    post_credits(tenant_id=subscriber.pk)
    collect(subscriber)
    post_credits(tenant_id=subscriber.pk)

    assert build_receipt(collection_of(subscriber).pk).signed.id == receipt.signed.id
    assert receipt.paid_cents == 500
