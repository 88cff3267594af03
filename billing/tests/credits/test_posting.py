"""Credits are posted at Stripe once, under crashes, races and lost answers."""

from datetime import timedelta

import pytest
import requests
import time_machine
from django.utils import timezone

from billing.clients.stripe.client import Stripe
from billing.clients.stripe.credits import CreditNotes, CustomerBalanceTransactions
from billing.clients.stripe.invoices import Invoices
from billing.models import CardAttempt, Credit, InvoiceCollection, StripeWrite
from billing.services.credits import posting
from billing.services.credits.balance import AdjustBalance
from billing.services.credits.credit_notes import CreateCreditNote
from billing.services.credits.posting import post_credit, post_credits
from billing.services.customers.customer import ensure_customer
from billing.services.invoices import locks
from billing.services.invoices.records import read_invoice
from billing.services.stripe_writes import writes
from billing.tasks import post_credit as post_credit_task
from billing.tasks import sweep_credits
from billing.tests.support.credits import owe
from billing.tests.support.subscriptions import add_relay, sync
from billing.tests.support.threads import in_threads
from billing.tests.support.workers import Killed
from lightning.exceptions import PaymentInProgress
from lightning.tests.factories import make_invoice
from tenants.models import Notice, Tenant

pytestmark = pytest.mark.django_db

committed = pytest.mark.django_db(transaction=True, serialized_rollback=True)
SURPLUS, UNSERVED = Credit.Reason.SURPLUS, Credit.Reason.UNSERVED


@pytest.fixture(scope="module")
def _saved_invoice(_sandbox, _saved_tenant, django_db_blocker):
    with django_db_blocker.unblock():
        return _saved_tenant.then(
            lambda: create_open_invoice(_sandbox[0], Tenant.objects.get())
        )


@pytest.fixture
def tenant(prices, _saved_tenant):
    return Tenant.objects.get(pk=_saved_tenant.restore())


@pytest.fixture
def invoice(tenant, _saved_invoice):
    """An open invoice of $5 for the tenant's relay."""
    invoice_id = _saved_invoice.restore()
    tenant.refresh_from_db()
    return invoice_id


def create_open_invoice(sandbox, tenant):
    add_relay(tenant)
    sync(tenant)
    client = sandbox.client()
    (draft,) = client.v1.invoices.list({"status": "draft"}).data
    client.v1.invoices.finalize_invoice(draft.id)
    read_invoice(Stripe(), draft.id, tenant)
    return draft.id


def amount_remaining(sandbox, invoice):
    return sandbox.client().v1.invoices.retrieve(invoice).amount_remaining


def credit_note_amounts(sandbox, invoice):
    listed = sandbox.client().v1.credit_notes.list({"invoice": invoice}).data
    return [note.amount for note in listed]


def balance_adjustments(sandbox, tenant):
    """Return Caravel's changes of the balance; credit is negative."""
    of_customer = sandbox.client().v1.customers.balance_transactions
    listed = of_customer.list(tenant.stripe_customer_id).data
    return [entry.amount for entry in listed if entry.type == "adjustment"]


def pay_out_of_band(sandbox, invoice):
    sandbox.client().v1.invoices.pay(invoice, {"paid_out_of_band": True})


def create_card_attempt(invoice):
    return CardAttempt.objects.create(
        collection_id=invoice,
        payment_method="pm_1",
        amount_cents=500,
        idempotency_key="card:1",
    )


def after(**delay):
    return time_machine.travel(timezone.now() + timedelta(**delay))


# --- invoice and balance


def test_credit_is_recorded_once_per_source(tenant):
    first, second = owe(tenant, 200), owe(tenant, 300)

    assert first == second
    assert Credit.objects.get().amount_cents == 200


def test_overpayment_without_an_open_invoice_goes_to_the_balance(sandbox, tenant):
    ensure_customer(Stripe(), tenant)
    credit = owe(tenant, 200)

    assert post_credit(credit_id=credit.pk)
    assert post_credit(credit_id=credit.pk)

    assert balance_adjustments(sandbox, tenant) == [-200]
    credit.refresh_from_db()
    assert (credit.state, credit.stripe_customer_id) == (
        "posted",
        tenant.stripe_customer_id,
    )


def test_tenant_is_notified_once_of_a_posted_overpayment(sandbox, tenant):
    ensure_customer(Stripe(), tenant)
    credit = owe(tenant, 200)
    assert not Notice.objects.exists()

    post_credit(credit_id=credit.pk)
    post_credit(credit_id=credit.pk)

    notice = Notice.objects.get()
    assert (notice.kind, notice.tenant_id) == ("surplus_credited", tenant.pk)
    assert "2.00" in notice.text


def test_tenant_is_not_told_that_a_debit_was_an_overpayment(sandbox, tenant):
    """It read: We have credited you -$2.00."""
    ensure_customer(Stripe(), tenant)

    post_credit(credit_id=owe(tenant, -200).pk)

    assert balance_adjustments(sandbox, tenant) == [200]
    assert not Notice.objects.exists()


def test_overpayment_reduces_the_open_invoice(sandbox, tenant, invoice):
    credit = owe(tenant, 200)

    post_credit(credit_id=credit.pk)

    assert amount_remaining(sandbox, invoice) == 300
    assert credit_note_amounts(sandbox, invoice) == [200]
    assert balance_adjustments(sandbox, tenant) == []
    credit.refresh_from_db()
    assert (credit.collection_id, credit.note_cents) == (invoice, 200)


def test_excess_over_the_invoice_goes_to_the_balance(sandbox, tenant, invoice):
    post_credit(credit_id=owe(tenant, 700).pk)

    assert amount_remaining(sandbox, invoice) == 0
    assert balance_adjustments(sandbox, tenant) == [-200]


def test_collection_is_due_after_a_credit_note(tenant, invoice):
    rows = InvoiceCollection.objects.filter(pk=invoice)
    rows.update(next_attempt_at=timezone.now() + timedelta(days=1))

    post_credit(credit_id=owe(tenant, 200).pk)

    assert rows.get().next_attempt_at <= timezone.now()


@pytest.mark.parametrize("left", [1, 49, 50])
def test_remainder_below_the_minimum_charge_is_carried_over(
    sandbox, tenant, invoice, left
):
    post_credit(credit_id=owe(tenant, 500 - left).pk)

    if left < 50:
        assert amount_remaining(sandbox, invoice) == 0
        assert balance_adjustments(sandbox, tenant) == [left]
    else:
        assert amount_remaining(sandbox, invoice) == left
        assert balance_adjustments(sandbox, tenant) == []


def test_earlier_debt_is_carried_over_again_when_invoice_is_closed(sandbox, tenant):
    """The amount due includes an earlier debt; a note cannot exceed the total."""
    customer = ensure_customer(Stripe(), tenant)
    Stripe().customer_balance_transactions.create(
        customer, {"amount": 30, "currency": "usd"}, "key"
    )
    invoice = create_open_invoice(sandbox, tenant)
    assert amount_remaining(sandbox, invoice) == 530

    post_credit(credit_id=owe(tenant, 490).pk)

    assert sandbox.client().v1.invoices.retrieve(invoice).status == "paid"
    assert credit_note_amounts(sandbox, invoice) == [500]
    assert sorted(balance_adjustments(sandbox, tenant)) == [30, 40]


def test_unused_time_of_an_uncollectible_invoice_waits_if_a_note_is_refused(
    sandbox, tenant, invoice
):
    credit = owe(tenant, 400, UNSERVED, collection_id=invoice)
    sandbox.client().v1.invoices.mark_uncollectible(invoice)

    assert not post_credit(credit_id=credit.pk)

    assert balance_adjustments(sandbox, tenant) == []
    credit.refresh_from_db()
    assert (credit.last_error_code, credit.note_cents) == ("credit-waits", None)
    sandbox.client().v1.invoices.void_invoice(invoice)
    assert post_credit(credit_id=credit.pk)
    assert balance_adjustments(sandbox, tenant) == []


def test_debit_goes_to_the_balance_although_an_invoice_is_open(
    sandbox, tenant, invoice
):
    debit = owe(tenant, -120, UNSERVED, collection_id=invoice)

    assert post_credit(credit_id=debit.pk)

    assert balance_adjustments(sandbox, tenant) == [120]
    assert credit_note_amounts(sandbox, invoice) == []


def test_stripe_sends_no_email_about_a_credit_note(sandbox, tenant, invoice):
    post_credit(credit_id=owe(tenant, 200).pk)

    assert credit_note_amounts(sandbox, invoice) == [200]
    emails = requests.get(f"{sandbox.url}/_sandbox/emails", timeout=60).json()
    assert emails["data"] == []


def test_unused_time_of_a_void_invoice_is_not_credited(sandbox, tenant, invoice):
    credit = owe(tenant, 400, UNSERVED, collection_id=invoice)
    sandbox.client().v1.invoices.void_invoice(invoice)

    assert post_credit(credit_id=credit.pk)

    assert balance_adjustments(sandbox, tenant) == []


def test_unused_time_paid_by_an_overpayment_is_credited(sandbox, tenant, invoice):
    post_credit(credit_id=owe(tenant, 500).pk)
    assert credit_note_amounts(sandbox, invoice) == [500]

    post_credit(credit_id=owe(tenant, 400, UNSERVED, "b", invoice).pk)

    assert balance_adjustments(sandbox, tenant) == [-400]


def test_credit_waits_until_its_draft_is_finalized(sandbox, tenant):
    add_relay(tenant)
    sync(tenant)
    (draft,) = sandbox.client().v1.invoices.list({}).data
    read_invoice(Stripe(), draft.id, tenant)
    credit = owe(tenant, 400, UNSERVED, collection_id=draft.id)

    assert not post_credit(credit_id=credit.pk)
    credit.refresh_from_db()
    assert "draft" in credit.last_error
    assert credit.failures == 0

    sandbox.client().v1.invoices.finalize_invoice(draft.id)
    assert post_credit(credit_id=credit.pk)
    assert amount_remaining(sandbox, draft.id) == 100


# --- concurrent payments


def test_overpayment_does_not_reduce_an_invoice_with_a_pending_charge(
    sandbox, tenant, invoice
):
    create_card_attempt(invoice)

    post_credit(credit_id=owe(tenant, 200).pk)

    assert credit_note_amounts(sandbox, invoice) == []
    assert balance_adjustments(sandbox, tenant) == [-200]


def test_unused_time_waits_while_its_invoice_has_a_pending_charge(
    sandbox, tenant, invoice
):
    attempt = create_card_attempt(invoice)
    credit = owe(tenant, 200, UNSERVED, collection_id=invoice)

    assert not post_credits(tenant_id=tenant.pk)
    credit.refresh_from_db()
    assert "card" in credit.last_error
    in_a_minute = timezone.now() + timedelta(minutes=1)
    assert in_a_minute - credit.next_attempt_at < timedelta(seconds=10)

    attempt.delete()
    assert post_credits(tenant_id=tenant.pk)
    assert amount_remaining(sandbox, invoice) == 300
    credit.refresh_from_db()
    assert credit.last_error == ""


def test_unused_time_waits_until_a_bolt11_is_final(tenant, invoice):
    bolt11 = make_invoice(
        tenant, "ab" * 32, stripe_invoice_id=invoice, shown_at=timezone.now()
    )
    credit = owe(tenant, 200, UNSERVED, collection_id=invoice)

    post_credit(credit_id=credit.pk)

    credit.refresh_from_db()
    assert credit.next_attempt_at == bolt11.final_at


def test_payments_are_blocked_while_a_credit_note_is_pending(
    sandbox, tenant, invoice, monkeypatch
):
    credit = owe(tenant, 200)
    keys = []
    real = CreditNotes.create

    def look(self, params, key):
        with pytest.raises(PaymentInProgress):
            locks.lock_if_unblocked(invoice)
        keys.append(key)
        return real(self, params, key)

    monkeypatch.setattr(CreditNotes, "create", look)
    post_credit(credit_id=credit.pk)

    assert len(keys) == 1
    assert locks.lock_if_unblocked(invoice)


@pytest.mark.parametrize("reason", [SURPLUS, UNSERVED])
def test_credit_goes_to_balance_when_invoice_is_paid_just_before_the_note(
    sandbox, tenant, invoice, monkeypatch, reason
):
    collection_id = invoice if reason == UNSERVED else None
    credit = owe(tenant, 200, reason, collection_id=collection_id)
    real = CreditNotes.create

    def pay_first(self, params, key):
        pay_out_of_band(sandbox, invoice)
        return real(self, params, key)

    monkeypatch.setattr(CreditNotes, "create", pay_first)
    assert post_credit(credit_id=credit.pk)

    assert credit_note_amounts(sandbox, invoice) == []
    assert balance_adjustments(sandbox, tenant) == [-200]
    assert StripeWrite.objects.get(kind="credit_note.create").state == "failed"


def test_credit_stays_owed_with_its_error_when_the_note_is_refused(
    sandbox, tenant, invoice
):
    sandbox.fault("status", path="credit_notes", status=400, times=None)
    credit = owe(tenant, 200)

    assert not post_credits(tenant_id=tenant.pk)

    credit.refresh_from_db()
    assert (credit.state, credit.last_error_code) == ("owed", "stripe-refused")
    assert not StripeWrite.objects.pending().exists()
    assert balance_adjustments(sandbox, tenant) == []


# --- crashes and lost answers


@pytest.mark.parametrize("does_its_work", [True, False])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (posting, "plan_credit_note"),
        (CreditNotes, "create"),
        (CreateCreditNote, "save"),
        (posting, "adjust_customer_balance"),
        (CustomerBalanceTransactions, "create"),
        (AdjustBalance, "save"),
        (writes, "mark_succeeded"),
        (posting, "_finish"),
    ],
)
def test_credit_is_posted_once_when_killed_at_any_step(
    sandbox, tenant, invoice, monkeypatch, owner, name, does_its_work
):
    credit = owe(tenant, 700)
    real = getattr(owner, name)

    def die(*args, **kwargs):
        if does_its_work:
            real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(owner, name, die)
    with pytest.raises(Killed):
        post_credit(credit_id=credit.pk)
    monkeypatch.setattr(owner, name, real)

    # A request that was sent may take effect for ten minutes.
    with after(minutes=11):
        assert post_credit(credit_id=credit.pk)

    assert credit_note_amounts(sandbox, invoice) == [500]
    assert balance_adjustments(sandbox, tenant) == [-200]
    assert not StripeWrite.objects.pending().exists()


def test_credit_is_allocated_again_when_note_is_refused_after_a_crash(
    sandbox, tenant, invoice, monkeypatch
):
    """A person reduced the invoice first; the posting is retried every minute."""
    credit = owe(tenant, 700)

    def die(*args):
        raise Killed

    monkeypatch.setattr(CreditNotes, "create", die)
    with pytest.raises(Killed):
        post_credit(credit_id=credit.pk)
    monkeypatch.undo()
    sandbox.client().v1.credit_notes.create({"invoice": invoice, "amount": 400})

    for minutes in range(1, 15):
        with after(minutes=minutes):
            post_credit(credit_id=credit.pk)

    assert credit_note_amounts(sandbox, invoice) == [100, 400]
    assert balance_adjustments(sandbox, tenant) == [-600]


@pytest.mark.parametrize("path", ["credit_notes", "balance_transactions"])
@pytest.mark.parametrize("kind", ["reset", "status"])
@pytest.mark.parametrize("days", [0, 3])
def test_lost_answer_is_looked_up_and_not_repeated(
    sandbox, tenant, invoice, path, kind, days
):
    sandbox.fault(kind, path=path, when="after", times=3)
    credit = owe(tenant, 700)
    assert not post_credit(credit_id=credit.pk)
    sandbox.clear_faults()

    with after(days=days, minutes=1):
        assert post_credit(credit_id=credit.pk)

    assert credit_note_amounts(sandbox, invoice) == [500]
    assert balance_adjustments(sandbox, tenant) == [-200]


@pytest.mark.parametrize("path", ["credit_notes", "balance_transactions"])
def test_request_that_never_arrived_is_sent_with_a_new_key_after_ten_minutes(
    sandbox, tenant, invoice, path
):
    sandbox.fault("reset", path=path, times=3)
    credit = owe(tenant, 700)
    post_credit(credit_id=credit.pk)

    with after(minutes=5):
        assert not post_credit(credit_id=credit.pk)
        credit.refresh_from_db()
        assert credit.last_error_code == "stripe-intent-unresolved"
    with after(minutes=11):
        assert post_credit(credit_id=credit.pk)

    assert credit_note_amounts(sandbox, invoice) == [500]
    assert balance_adjustments(sandbox, tenant) == [-200]


def test_invoice_is_closed_after_a_crash_between_note_and_closing(
    sandbox, tenant, monkeypatch
):
    customer = ensure_customer(Stripe(), tenant)
    Stripe().customer_balance_transactions.create(
        customer, {"amount": 30, "currency": "usd"}, "key"
    )
    invoice = create_open_invoice(sandbox, tenant)
    credit = owe(tenant, 490)
    monkeypatch.setattr(Invoices, "mark_paid_out_of_band", None)
    with pytest.raises(TypeError):
        post_credit(credit_id=credit.pk)
    assert locks.payment_blocker(invoice)
    monkeypatch.undo()

    assert post_credit(credit_id=credit.pk)

    assert sandbox.client().v1.invoices.retrieve(invoice).status == "paid"
    assert sorted(balance_adjustments(sandbox, tenant)) == [30, 40]


@committed
def test_credit_is_posted_once_by_concurrent_workers(sandbox, tenant, invoice):
    credit = owe(tenant, 700)

    assert in_threads(6, lambda: post_credit(credit_id=credit.pk)) == []
    assert post_credit(credit_id=credit.pk)

    assert credit_note_amounts(sandbox, invoice) == [500]
    assert balance_adjustments(sandbox, tenant) == [-200]


@committed
def test_each_credit_is_posted_once_by_concurrent_workers(sandbox, tenant, invoice):
    for number in range(3):
        owe(tenant, 100, source=str(number))

    assert in_threads(4, lambda: post_credits(tenant_id=tenant.pk)) == []
    assert post_credits(tenant_id=tenant.pk)

    credited = sum(credit_note_amounts(sandbox, invoice)) - sum(
        balance_adjustments(sandbox, tenant)
    )
    assert credited == 300
    assert amount_remaining(sandbox, invoice) == 500 - sum(
        credit_note_amounts(sandbox, invoice)
    )


# --- customers


def test_credit_waits_for_a_customer(sandbox, tenant):
    credit = owe(tenant, 200)
    assert post_credits(tenant_id=tenant.pk)
    credit.refresh_from_db()
    assert credit.state == "owed"
    assert "next customer" in credit.last_error

    add_relay(tenant)
    sync(tenant)

    assert balance_adjustments(sandbox, tenant) == [-200]
    (first,) = sandbox.client().v1.invoices.list({}).data
    assert first.amount_due == 300


@pytest.mark.parametrize("answer_lost", [False, True])
def test_credit_moves_to_the_next_customer_after_a_deletion(
    sandbox, tenant, answer_lost
):
    old = ensure_customer(Stripe(), tenant)
    credit = owe(tenant, 200)
    if answer_lost:
        sandbox.fault("reset", path="balance_transactions", times=3)
        post_credit(credit_id=credit.pk)
    sandbox.client().v1.customers.delete(old)

    assert not post_credit(credit_id=credit.pk)
    assert Tenant.objects.get(pk=tenant.pk).stripe_customer_id is None

    add_relay(tenant)
    sync(tenant)
    assert tenant.stripe_customer_id != old
    assert balance_adjustments(sandbox, tenant) == [-200]


# --- enqueuing


@pytest.fixture
def enqueued_ids(monkeypatch):
    enqueued_ids = []
    monkeypatch.setattr(
        post_credit_task,
        "apply_async",
        lambda args=(), kwargs=None, **options: enqueued_ids.append(args[0]),
    )
    return enqueued_ids


def test_posting_is_enqueued_when_a_credit_is_recorded(
    tenant, enqueued_ids, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        credit = owe(tenant, 200)
        owe(tenant, 200)

    assert enqueued_ids == [credit.pk]


def test_sweep_enqueues_a_credit_whose_message_was_lost(sandbox, tenant, enqueued_ids):
    ensure_customer(Stripe(), tenant)
    credit = owe(tenant, 200)
    sweep_credits()
    assert enqueued_ids == []

    with after(minutes=6):
        sweep_credits()
        sweep_credits()
    assert enqueued_ids == [credit.pk]

    post_credit_task(credit.pk)
    with after(hours=1):
        sweep_credits()
    assert enqueued_ids == [credit.pk]
