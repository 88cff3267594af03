"""Two workers at once, crashes and people at Stripe: money is counted once."""

import threading

import pytest
from django.db import connection
from django.utils import timezone

from billing.clients.stripe.client import Stripe
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
from billing.tests.collection.test_collect import (
    attach,
    codes,
    collect,
    collection_of,
    pay_by_wallet,
)
from billing.tests.support.credits import owe
from billing.tests.support.subscriptions import rewrite_subscription
from billing.tests.support.threads import in_threads
from billing.tests.support.workers import Killed
from lightning.exceptions import PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment
from lightning.services.invoice_status import check_invoice
from lightning.services.wallets import connect_wallet
from lightning.tests.support.polling import until
from sandbox.wallets import refuses
from tenants.models import Notice
from tenants.services.tenants import set_wallet

pytestmark = pytest.mark.django_db

Action = InvoiceCollection.Action


def at_stripe(sandbox, tenant):
    """The tenant's only invoice, as Stripe has it."""
    return sandbox.client().v1.invoices.retrieve(collection_of(tenant).pk)


def pay_in_part(sandbox, tenant, cents):
    """A person pays a part by card: https://docs.stripe.com/invoicing/partial-payments.

    The sandbox has no call for it.
    """
    invoice_id = collection_of(tenant).pk

    def work(context):
        with context.update("invoice", invoice_id) as draft:
            draft["amount_paid"] += cents
            draft["amount_remaining"] -= cents
        whole = next(context.store.scan("invoice_payment"))
        intent = context.get("payment_intent", whole["payment"]["payment_intent"])
        paid = {**intent, "id": "pi_part", "amount": cents, "status": "succeeded"}
        context.insert({**paid, "amount_received": cents})
        part = {**whole, "id": "inpay_part", "amount_paid": cents, "status": "paid"}
        part["payment"] = {**part["payment"], "payment_intent": "pi_part"}
        part["is_default"] = False
        # The sandbox takes the first that it finds for the default one.
        created = whole["created"] - 1
        context.insert({**part, "amount_requested": cents, "created": created})

    sandbox.app.transact(work)


def before(monkeypatch, owner, name, happen):
    """Let something happen once, just before a function does its work."""
    real = getattr(owner, name)

    def happen_first(*args, **kwargs):
        monkeypatch.setattr(owner, name, real)
        happen()
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, happen_first)


@pytest.fixture
def arrived(subscriber, wallets, alice, rates):
    """A Lightning payment of the first invoice, which is not booked yet."""
    collect(subscriber)
    offered = get_or_issue_bolt11(invoice_id=collection_of(subscriber).pk)
    wallets.ledger.pay("alice", offered.bolt11)
    check_invoice(invoice_id=offered.pk)
    return offered


# --- booking


def test_what_another_worker_has_just_credited_marks_nothing(
    subscriber, sandbox, arrived, monkeypatch
):
    """The payment is worth less than is asked for: all of it is credit."""
    type(arrived).objects.filter(pk=arrived.pk).update(amount_cents=400)
    real = settlements._begin_marking

    def book_first(collection, payment, found):
        monkeypatch.setattr(settlements, "_begin_marking", real)
        settlements.book_next(Stripe(), collection, found)
        return real(collection, payment, found)

    monkeypatch.setattr(settlements, "_begin_marking", book_first)
    collect(subscriber)

    assert Settlement.objects.get().state == "credited"
    assert Credit.objects.get().amount_cents == 400
    assert at_stripe(sandbox, subscriber).status == "open"


def test_of_what_was_paid_by_card_in_part_the_rest_is_marked(
    subscriber, sandbox, arrived
):
    pay_in_part(sandbox, subscriber, 200)

    first = collect(subscriber)

    assert (first.stripe_status, first.paid_by) == ("paid", "lightning")
    assert Settlement.objects.get().marked_cents == 300
    assert Credit.objects.get().amount_cents == 200


def test_what_arrives_while_an_invoice_is_closed_is_booked(
    subscriber, sandbox, wallets, alice, rates, clock, monkeypatch
):
    """Whoever was woken by it has failed, and the one who closes does not know."""
    collect(subscriber)
    invoice_id = collection_of(subscriber).pk
    offered = get_or_issue_bolt11(invoice_id=invoice_id)
    sandbox.client().v1.invoices.void_invoice(invoice_id)

    def arrive():
        wallets.ledger.pay("alice", offered.bolt11)
        check_invoice(invoice_id=offered.pk)
        sandbox.fault("status", method="GET", times=3)
        collect(subscriber)

    before(monkeypatch, collection, "_wait", arrive)
    collect(subscriber)
    clock.move(minutes=6)
    for due in InvoiceCollection.objects.working().claim(now=timezone.now()):
        collect_invoice(invoice_id=due)

    assert Credit.objects.get().amount_cents == 500


def a_lock_is_waited_for() -> bool:
    with connection.cursor() as cursor:
        # Of pg_stat_activity a transaction sees what it saw first.
        cursor.execute("select 1 from pg_locks where not granted")
        return cursor.fetchone() is not None


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
@pytest.mark.parametrize("what", ["a subscription ends", "a wallet is connected"])
def test_who_books_a_payment_meanwhile_is_in_nobodys_way(
    subscriber, sandbox, arrived, alice, monkeypatch, what
):
    """The credit refers to the tenant, whose row the other one holds."""
    type(arrived).objects.filter(pk=arrived.pk).update(amount_cents=400)
    subscription = subscriber.stripe_subscription_id
    rewrite_subscription(sandbox, subscription, status="unpaid")
    found = Stripe().get_subscription(subscription)
    works = {
        "a subscription ends": lambda: handle_subscription_ended(
            tenant_id=subscriber.pk, subscription=found
        ),
        "a wallet is connected": lambda: set_wallet(
            pubkey=subscriber.pk, nwc_url=alice.url
        ),
    }
    wrong = []

    def meanwhile():
        wrong.extend(in_threads(1, works[what]))

    other = threading.Thread(target=meanwhile)

    def start_and_be_waited_for():
        other.start()
        until(a_lock_is_waited_for)

    before(monkeypatch, settlements, "_owe", start_and_be_waited_for)
    collect(subscriber)
    other.join()

    assert wrong == []
    assert Credit.objects.get().amount_cents == 400


@pytest.mark.parametrize(
    ("currency", "cents"), [("usd", 50_525), ("isk", 50_500), ("kwd", 50_520)]
)
def test_what_came_on_top_counts_in_steps_that_stripe_takes(currency, cents):
    payment = LightningInvoice(
        currency=currency,
        amount_cents=50_000,
        amount_msat=1_000_000,
        received_msat=1_010_500,
    )

    assert settlements.value_cents(payment) == cents


def test_an_invoice_is_known_to_be_paid_before_its_payment_is_booked(
    subscriber, arrived, monkeypatch
):
    """Another worker could charge it in between."""
    seen = []
    before(
        monkeypatch,
        settlements,
        "_conclude",
        lambda: seen.append(collection_of(subscriber).stripe_status),
    )

    collect(subscriber)

    assert seen == ["paid"]


@pytest.fixture
def grown(subscriber, sandbox, wallets, alice, rates):
    """An invoice, paid by Lightning, for which a person then asked for more.

    What arrived has become credit and reduced it: a part is still to be paid.
    """
    collect(subscriber)
    api, invoice_id = sandbox.client().v1, collection_of(subscriber).pk
    note = api.credit_notes.create({"invoice": invoice_id, "amount": 120})
    offered = get_or_issue_bolt11(invoice_id=invoice_id)
    api.credit_notes.void_credit_note(note.id)
    wallets.ledger.pay("alice", offered.bolt11)
    check_invoice(invoice_id=offered.pk)
    collect(subscriber)
    post_credits(tenant_id=subscriber.pk)
    collect(subscriber)
    assert at_stripe(sandbox, subscriber).amount_remaining == 120
    return invoice_id


def test_the_wallet_may_pay_the_rest_of_what_lightning_has_paid_in_part(
    subscriber, alice, grown
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    collect(subscriber)
    pay_by_wallet()

    assert collect(subscriber).paid_by == "wallet"
    assert Settlement.objects.get(state="marked").marked_cents == 120


def test_a_person_may_pay_the_rest_of_what_lightning_has_paid_in_part(grown):
    assert get_or_issue_bolt11(invoice_id=grown).amount_cents == 120


# --- the ladder


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (attempts, "_wait_for_next_attempt"),
        (attempts, "_pay_by_wallet"),
        (attempts, "_charge_card"),
        (cards, "start_attempt"),
    ],
)
def test_a_rung_that_another_worker_has_climbed_is_not_climbed_again(
    subscriber, sandbox, monkeypatch, owner, name
):
    attach(sandbox, subscriber, outcome="insufficient_funds")
    before(monkeypatch, owner, name, lambda: collect(subscriber))

    first = collect(subscriber)

    assert codes() == ["insufficient_funds"]
    assert (first.state, first.next_action) == ("manual", "")


def test_a_wallet_that_another_worker_has_asked_is_not_asked_again(
    subscriber, alice, rates, monkeypatch
):
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")

    def next_attempt_step():
        collect(subscriber)
        pay_by_wallet()
        collect(subscriber)

    before(monkeypatch, attempts, "start_payment", next_attempt_step)
    collect(subscriber)

    assert NwcPayment.objects.count() == 1


def test_a_card_that_is_attached_while_another_is_chosen_is_charged_next(
    subscriber, sandbox, monkeypatch
):
    attach(sandbox, subscriber, "pm_card_chargeCustomerFail", outcome="")

    def attach_another():
        api, customer = sandbox.client().v1, subscriber.stripe_customer_id
        card = attach(sandbox, subscriber, outcome="")
        settings = {"default_payment_method": card}
        api.customers.update(customer, {"invoice_settings": settings})
        start_attempt_for_tenant(tenant_id=subscriber.pk, rail=Action.CARD)

    before(monkeypatch, cards, "start_attempt", attach_another)

    assert collect(subscriber).paid_by == "card"
    assert codes() == [""]


# --- answers of Stripe's that are older than what is known here


def after_reading(monkeypatch, happen):
    """Let something happen once, just after Stripe has said what an invoice is."""
    real = Stripe.get_invoice

    def read_first(stripe, invoice_id):
        found = real(stripe, invoice_id)
        monkeypatch.setattr(Stripe, "get_invoice", real)
        happen()
        return found

    monkeypatch.setattr(Stripe, "get_invoice", read_first)


@pytest.fixture
def charge(subscriber, sandbox):
    """What another worker does: its charge succeeds, and it did not get further."""
    card = attach(sandbox, subscriber)
    Stripe().finalize_invoice(collection_of(subscriber).pk)
    read_invoice(Stripe(), collection_of(subscriber).pk, subscriber)
    now = timezone.now()
    rung = {
        "next_action": Action.CARD,
        "attempts_started": 1,
        "attempt_started_at": now,
    }
    InvoiceCollection.objects.update(**rung)

    def go_through():
        attempt = cards.start_attempt(
            collection_of(subscriber), card, then=Action.NOTICE
        )
        cards.run_attempt(Stripe(), attempt)

    return go_through


def test_who_has_just_paid_by_card_is_not_asked_to_pay(subscriber, charge, monkeypatch):
    after_reading(monkeypatch, charge)

    first = collect(subscriber)

    assert first.paid_by == "card"
    assert not Notice.objects.exists()


def test_a_wallet_is_not_asked_for_what_a_card_has_just_paid(
    subscriber, charge, alice, rates, monkeypatch
):
    def charge_and_connect():
        charge()
        connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
        start_attempt_for_tenant(tenant_id=subscriber.pk, rail=Action.WALLET)

    after_reading(monkeypatch, charge_and_connect)

    first = collect(subscriber)

    assert first.paid_by == "card"
    assert not NwcPayment.objects.exists()


def die():
    raise Killed


@pytest.mark.parametrize("name", ["record_invoice", "_resolve"])
def test_killed_when_the_card_has_paid_it_pays_once(
    subscriber, sandbox, charge, monkeypatch, name
):
    """What is asked for again, is the same charge."""
    before(monkeypatch, cards, name, die)
    with pytest.raises(Killed):
        charge()
    CardAttempt.objects.update(tried_at=None)

    first = collect(subscriber)

    assert (first.state, first.paid_by, codes()) == ("closed", "card", [""])
    intents_there = sandbox.client().v1.payment_intents.list().data
    assert [each.amount_received for each in intents_there] == [500]
    assert not Notice.objects.exists()


def test_a_charge_that_is_looked_up_a_day_later_is_known_to_have_paid(
    subscriber, charge, clock
):
    charge()
    InvoiceCollection.objects.update(stripe_status="open", paid_by="")
    CardAttempt.objects.update(state="pending", resolved_at=None)
    clock.move(hours=25)

    cards.run_attempt(Stripe(), CardAttempt.objects.get())

    assert CardAttempt.objects.get().state == "paid"
    assert collection_of(subscriber).stripe_status == "paid"


def test_a_wallet_pays_no_more_than_is_left_since_a_credit_was_posted(
    subscriber, alice, rates, monkeypatch
):
    collect(subscriber)
    connect_wallet(pubkey=subscriber.pk, nwc_url=alice.url)
    start_attempt_for_tenant(tenant_id=subscriber.pk, rail=Action.WALLET)
    owe(subscriber, 120)
    after_reading(monkeypatch, lambda: post_credits(tenant_id=subscriber.pk))

    collect(subscriber)

    assert LightningInvoice.objects.get().amount_cents == 380
    pay_by_wallet()
    assert collect(subscriber).paid_by == "wallet"
    assert not Credit.objects.owed().exists()


def test_what_is_left_is_known_before_the_claim_of_a_credit_ends(
    subscriber, monkeypatch
):
    collect(subscriber)
    owe(subscriber, 120)
    seen = []

    def look():
        seen.append(collection_of(subscriber).amount_remaining_cents)

    before(monkeypatch, writes.Write, "complete", look)
    post_credits(tenant_id=subscriber.pk)

    assert seen == [380]


def test_an_event_does_not_bring_back_what_was_asked_for_before(subscriber):
    collect(subscriber)
    row = collection_of(subscriber)
    earlier = Stripe().get_invoice(row.pk)
    owe(subscriber, 120)
    post_credits(tenant_id=subscriber.pk)

    taken = record_and_enqueue(earlier, subscriber, since=row.revision)

    assert taken and taken.amount_remaining_cents == 380
    assert collection_of(subscriber).enqueued_at


def test_an_invoice_that_is_changed_all_the_time_is_left_for_later(
    subscriber, sandbox, monkeypatch
):
    collect(subscriber)
    row, real = collection_of(subscriber), Stripe.get_invoice

    def read_first(stripe, invoice_id):
        found = real(stripe, invoice_id)
        api = sandbox.client().v1
        api.credit_notes.create({"invoice": invoice_id, "amount": 10})
        since = revision_of(invoice_id)
        now = real(stripe, invoice_id)
        record_invoice(found=now, tenant=subscriber, since=since)
        return found

    monkeypatch.setattr(Stripe, "get_invoice", read_first)

    with pytest.raises(InvoiceChanged):
        read_invoice(Stripe(), row.pk, subscriber)
    # Five readings, each of which another one has overtaken.
    assert collection_of(subscriber).amount_remaining_cents == 450
    assert collect(subscriber).last_error_code == "invoice-changed"


@pytest.mark.parametrize(
    "columns",
    [{"stripe_status": "void"}, {"stripe_status": "paid", "amount_paid_cents": 7}],
)
def test_what_is_final_here_is_closed_whatever_stripe_says(subscriber, columns):
    """It should not be, but is better than to be tried for ever."""
    collect(subscriber)
    InvoiceCollection.objects.update(**columns)

    closed = collect(subscriber)

    assert (closed.stripe_status, closed.state) == (columns["stripe_status"], "closed")
    assert closed.last_error == ""


# --- what is refused again and again


def sweep():
    """What beat does each minute."""
    now = timezone.now()
    for invoice_id in InvoiceCollection.objects.working().claim(now=now):
        collect_invoice(invoice_id=invoice_id)
    for credit_id in Credit.objects.owed().claim(now=now):
        post_credit(credit_id=credit_id)


def test_a_credit_that_is_always_refused_is_tried_ever_more_seldom(
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


# --- a card that another worker has just asked


def ask_card(tenant):
    """What another worker has just begun, and not seen the end of."""
    row = collection_of(tenant)
    return cards.start_attempt(row, "pm_other", then=Action.NOTICE)


def test_a_payment_is_not_booked_while_a_card_is_charged(
    subscriber, sandbox, arrived, monkeypatch
):
    LightningInvoice.objects.update(state="expired", settled_at=None, shown_at=None)
    ask = ask_card(subscriber)
    LightningInvoice.objects.update(
        state="settled", settled_at=timezone.now(), shown_at=timezone.now()
    )
    # This worker has looked for charges before there was one.
    monkeypatch.setattr(collection, "_STEPS", collection._STEPS[1:])

    row = collect(subscriber)

    assert (row.state, row.outcome) == (
        "pending",
        "The card has been asked to pay this.",
    )
    assert not Settlement.objects.exists()
    assert at_stripe(sandbox, subscriber).status == "open"
    assert ask.state == "pending"


def test_an_invoice_is_not_closed_over_a_charge_without_an_outcome(
    subscriber, sandbox, monkeypatch
):
    collect(subscriber)
    ask_card(subscriber)
    invoice_id = collection_of(subscriber).pk
    sandbox.client().v1.invoices.pay(invoice_id, {"paid_out_of_band": True})
    monkeypatch.setattr(collection, "_STEPS", collection._STEPS[1:])

    assert collect(subscriber).state == "pending"
    monkeypatch.undo()
    assert collect(subscriber).state == "closed"
    assert codes() != [""]


# --- a payment that has just arrived


def pay_by_hand(offered, alice):
    alice.pay(offered.bolt11)
    check_invoice(invoice_id=offered.pk)


def test_no_card_is_charged_when_a_payment_arrives_while_it_is_chosen(
    subscriber, sandbox, alice, rates, monkeypatch
):
    attach(sandbox, subscriber)
    row = collection_of(subscriber)
    record_and_enqueue(
        Stripe().finalize_invoice(row.pk), subscriber, since=row.revision
    )
    offered = get_or_issue_bolt11(invoice_id=row.pk)
    InvoiceCollection.objects.update(next_action=Action.CARD, attempts_started=1)
    before(
        monkeypatch,
        attempts,
        "_wait_for_pending_payment",
        lambda: pay_by_hand(offered, alice),
    )

    collect(subscriber)
    collect(subscriber)

    assert not CardAttempt.objects.exists()
    assert Settlement.objects.get().state == "marked"
    assert not Credit.objects.exists()


def test_no_card_is_charged_when_it_arrives_just_before_the_claim(
    subscriber, sandbox, alice, rates, monkeypatch
):
    """It is live when the claims are looked at, and has arrived a moment later."""
    attach(sandbox, subscriber)
    row = collection_of(subscriber)
    record_and_enqueue(
        Stripe().finalize_invoice(row.pk), subscriber, since=row.revision
    )
    offered = get_or_issue_bolt11(invoice_id=row.pk)
    alice.pay(offered.bolt11)
    now = timezone.now()

    def settle():
        """What another worker commits."""
        LightningInvoice.objects.update(state="settled", settled_at=now)

    before(monkeypatch, locks, "payable_until", settle)

    with pytest.raises(PaymentInProgress):
        cards.start_attempt(collection_of(subscriber), "pm_1", then=Action.NOTICE)


def test_what_a_payment_has_paid_is_not_reduced_before_it_is_booked(
    subscriber, sandbox, arrived
):
    told = build_receipt(collection_of(subscriber).pk)
    owe(subscriber, 120)
    post_credits(tenant_id=subscriber.pk)
    collect(subscriber)
    post_credits(tenant_id=subscriber.pk)

    assert build_receipt(collection_of(subscriber).pk).signed.id == told.signed.id
    assert told.paid_cents == 500
