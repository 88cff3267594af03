"""Attempts to have a tenant's wallet pay: every behaviour, with real parts."""

from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.db import IntegrityError, transaction
from django.utils import timezone

from lightning.clients import nwc
from lightning.exceptions import (
    AlreadySettled,
    NoWallet,
    PaymentInProgress,
    WalletError,
)
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoice_status, invoices, payments
from lightning.services.payments import run_payment, start_payment
from lightning.services.wallets import connect_wallet, disconnect_wallet
from lightning.tasks import resolve_payments, run_nwc_payment
from lightning.tests.factories import bill_for, tenant_with
from sandbox.wallets import (
    CLAIMS_FALSELY,
    PAYS,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    CorruptReply,
    LookupBehaviour,
    PaymentBehaviour,
    Terms,
    answers_after,
    pays_but_says,
    refuses,
    settles_late,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("platform", "prices")]

State = NwcPayment.State


@pytest.fixture
def tenant(alice):
    return tenant_with(alice)


@pytest.fixture
def bill(tenant):
    return bill_for(tenant)


def begin(bill):
    return start_payment(bill=bill)


def run(bill):
    return run_payment(payment_id=begin(bill).pk)


def check(payment):
    invoice_status.check_invoice(invoice_id=payment.invoice_id)
    payment.refresh_from_db()
    return payment


def later(payment, seconds=0):
    """Travel to when «not paid» is final, and so many seconds further."""
    when = payment.invoice.final_at + timedelta(seconds=seconds)
    return time_machine.travel(when, tick=True)


def test_a_wallet_that_pays(wallets, tenant, bill):
    payment = run(bill)

    assert payment.state == State.PAID
    invoice = payment.invoice
    invoice.refresh_from_db()
    assert invoice.state == LightningInvoice.State.SETTLED
    assert invoice.received_msat == invoice.amount_msat
    assert wallets.ledger.debits("alice") == [invoice.amount_msat]
    assert invoice.preimage
    assert not payment.nwc_url
    tenant.refresh_from_db()
    assert tenant.nwc_error == ""


def test_a_payment_costs_few_queries(bill, django_assert_max_num_queries):
    payment = begin(bill)

    with django_assert_max_num_queries(14):  # a savepoint's two are among them
        run_payment(payment_id=payment.pk)


def test_running_twice_sends_one_request(relay, alice, bill):
    payment = begin(bill)

    run_payment(payment_id=payment.pk)
    run_payment(payment_id=payment.pk)

    assert len(alice.requests("pay_invoice")) == 1


def test_the_request_is_stored_before_it_is_sent(relay, bill):
    payment = begin(bill)
    stored = []
    true = nwc.Wallet.pay_invoice

    def look_first(self, request, *, payment_hash):
        row = NwcPayment.objects.get(pk=payment.pk)
        stored.append((row.request_event_id, row.sent_at is not None, row.state))
        return true(self, request, payment_hash=payment_hash)

    with patch.object(nwc.Wallet, "pay_invoice", look_first):
        run_payment(payment_id=payment.pk)

    (event_id, is_sent, state) = stored[0]
    assert is_sent
    assert state == State.PENDING
    assert event_id in {event.id for event in relay.events(nwc.REQUEST)}


def test_an_attempt_is_enqueued_when_it_is_committed(
    bill, django_capture_on_commit_callbacks
):
    with (
        patch.object(run_nwc_payment, "apply_async") as send,
        django_capture_on_commit_callbacks(execute=True),
    ):
        payment = begin(bill)

    send.assert_called_once_with((payment.pk,), {})


@pytest.mark.parametrize(
    "code", ["INSUFFICIENT_BALANCE", "QUOTA_EXCEEDED", "EXPIRED", "RATE_LIMITED"]
)
def test_a_refusal_ends_the_attempt_and_retires_its_invoice(
    wallets, alice, tenant, bill, code
):
    alice.behaviour = refuses(code)

    payment = run(bill)

    assert (payment.state, payment.code) == (State.REFUSED, code)
    payment.invoice.refresh_from_db()
    assert payment.invoice.state == LightningInvoice.State.EXPIRED
    assert invoices.payable_until(bill.stripe_invoice_id) is None
    tenant.refresh_from_db()
    assert tenant.nwc_error.startswith("Your wallet did not pay: ")
    assert wallets.ledger.debits("alice") == []
    alice.behaviour = PAYS
    again = run(bill)
    assert again.state == State.PAID
    assert again.invoice.payment_hash != payment.invoice.payment_hash
    tenant.refresh_from_db()
    assert tenant.nwc_error == ""


def test_a_budget_that_is_used_up_refuses(wallets, tenant, bill):
    poor = wallets.create("poor", balance_msat=10**9, terms=Terms(budget_msat=1_000))
    connect_wallet(pubkey=tenant.pk, nwc_url=poor.url)

    payment = run(bill)

    assert (payment.state, payment.code) == (State.REFUSED, "QUOTA_EXCEEDED")


PAID_UNKNOWN = [
    PAYS_WITHOUT_ANSWER,
    answers_after(60),
    pays_but_says("INTERNAL"),
    pays_but_says("PAYMENT_FAILED"),
    *(PaymentBehaviour(corruption=garbage) for garbage in CorruptReply),
]


@pytest.mark.parametrize("behaviour", PAID_UNKNOWN, ids=str)
def test_whatever_it_says_our_own_wallet_knows_that_it_paid(
    settings, wallets, alice, bill, behaviour
):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = behaviour

    payment = run(bill)

    assert payment.state == State.PAID
    assert wallets.ledger.debits("alice") == [payment.invoice.amount_msat]


UNPAID_UNKNOWN = [
    STAYS_SILENT,
    CLAIMS_FALSELY,
    refuses("INTERNAL"),
    refuses("OTHER"),
    refuses("PAYMENT_FAILED"),
    refuses("NEWLY_INVENTED"),
    PaymentBehaviour(pays_after=None, corruption=CorruptReply.NOT_JSON),
]


@pytest.mark.parametrize("behaviour", UNPAID_UNKNOWN, ids=str)
def test_what_proves_nothing_waits_for_our_wallets_final_word(
    settings, wallets, alice, tenant, bill, behaviour
):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = behaviour

    payment = run(bill)

    assert payment.state == State.PENDING
    tenant.refresh_from_db()
    assert tenant.nwc_error.startswith("Your wallet may have paid, or not")
    with pytest.raises(PaymentInProgress) as caught:
        begin(bill)
    assert caught.value.until == payment.invoice.final_at
    with later(payment, -60):
        assert check(payment).state == State.PENDING
    with later(payment, 1):
        assert check(payment).state == State.FAILED
        assert invoices.payable_until(bill.stripe_invoice_id) is None
    assert wallets.ledger.debits("alice") == []


def test_a_payment_that_failed_and_then_settles(wallets, alice, bill):
    alice.behaviour = settles_late(3_600)

    payment = run(bill)

    assert (payment.state, payment.code) == (State.PENDING, "PAYMENT_FAILED")
    with time_machine.travel(timezone.now() + timedelta(seconds=3_601), tick=True):
        wallets.run_due()
        assert check(payment).state == State.PAID
    assert wallets.ledger.debits("alice") == [payment.invoice.amount_msat]


def test_while_our_wallet_is_down_nothing_is_decided(
    settings, wallets, platform, alice, tenant, bill
):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = STAYS_SILENT
    payment = run(bill)
    platform.lookup_behaviour = LookupBehaviour(error="INTERNAL")

    with later(payment, 3_600):
        check(payment)

        assert payment.state == State.PENDING
        assert invoices.payable_until(bill.stripe_invoice_id) is not None
        with pytest.raises(PaymentInProgress):
            begin(bill)
        with pytest.raises(PaymentInProgress):
            invoices.get_or_issue_invoice(bill=bill)


@pytest.mark.parametrize("error", ["NOT_FOUND", "INTERNAL", "UNAUTHORIZED"])
def test_an_error_of_our_wallet_is_no_answer(settings, platform, alice, bill, error):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = STAYS_SILENT
    payment = run(bill)
    platform.lookup_behaviour = LookupBehaviour(error=error)

    with later(payment, 3_600):
        assert check(payment).state == State.PENDING
        payment.invoice.refresh_from_db()
        assert payment.invoice.failures == 1


@pytest.mark.parametrize("is_found_out", ["before", "while sending"])
def test_a_relay_that_cannot_be_reached_sent_nothing(relay, alice, bill, is_found_out):
    payment = begin(bill)
    relay.go_offline()
    if is_found_out == "before":
        nwc.clear_scheme_cache()

    run_payment(payment_id=payment.pk)

    payment.refresh_from_db()
    assert (payment.state, payment.code) == (State.REFUSED, "NOT_SENT")
    assert (payment.request_event_id is None) == (is_found_out == "before")
    relay.go_online()
    assert alice.requests("pay_invoice") == []


def test_an_invoice_that_is_too_old_is_not_sent(alice, bill):
    payment = begin(bill)

    with time_machine.travel(payment.invoice.expires_at - timedelta(seconds=50)):
        run_payment(payment_id=payment.pk)

    payment.refresh_from_db()
    assert (payment.state, payment.code) == (State.REFUSED, "NOT_SENT")
    assert alice.requests("pay_invoice") == []


def test_a_failure_before_sending_does_not_end_what_another_worker_sent(
    relay, settings, alice, bill
):
    """Two workers have the same message; one's relay is gone before it sends."""
    settings.NWC_TIMEOUT = 1
    alice.behaviour = STAYS_SILENT
    payment = begin(bill)
    true = payments._prepare

    def first_another(row):
        with patch.object(payments, "_prepare", true):
            run_payment(payment_id=payment.pk)
        raise WalletError("the relay is gone")

    with patch.object(payments, "_prepare", first_another):
        run_payment(payment_id=payment.pk)

    payment.refresh_from_db()
    assert payment.state == State.PENDING
    assert payment.request_event_id


def test_a_tenant_who_changes_wallets_changes_nothing_of_an_attempt(
    wallets, alice, tenant, bill
):
    payment = begin(bill)
    bob = wallets.create("bob", balance_msat=10**9)
    connect_wallet(pubkey=tenant.pk, nwc_url=bob.url)

    assert run_payment(payment_id=payment.pk).state == State.PAID
    assert wallets.ledger.debits("alice") == [payment.invoice.amount_msat]
    assert bob.requests("pay_invoice") == []


def test_an_old_wallets_fault_is_not_said_of_the_new_one(wallets, alice, tenant, bill):
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    payment = begin(bill)
    bob = wallets.create("bob")
    connect_wallet(pubkey=tenant.pk, nwc_url=bob.url)

    run_payment(payment_id=payment.pk)

    tenant.refresh_from_db()
    assert tenant.nwc_error == ""


def test_without_a_wallet_nothing_is_issued(platform, tenant, bill):
    disconnect_wallet(pubkey=tenant.pk)

    with pytest.raises(NoWallet):
        begin(bill)
    assert platform.requests("make_invoice") == []


def test_a_wallet_that_is_disconnected_meanwhile_is_not_asked(tenant, bill):
    true = invoices.issue_invoice

    def issue_slowly(*, bill):
        issued = true(bill=bill)
        disconnect_wallet(pubkey=tenant.pk)
        return issued

    with patch.object(invoices, "issue_invoice", issue_slowly), pytest.raises(NoWallet):
        begin(bill)
    assert not LightningInvoice.objects.exists()


def test_one_attempt_at_a_time(bill):
    begin(bill)

    with pytest.raises(PaymentInProgress):
        begin(bill)
    assert NwcPayment.objects.count() == 1


def test_what_is_settled_is_not_paid_again(bill):
    run(bill)

    with pytest.raises(AlreadySettled):
        begin(bill)


def test_what_a_person_was_shown_is_not_given_to_a_wallet(bill):
    shown = invoices.get_or_issue_invoice(bill=bill)

    with pytest.raises(PaymentInProgress) as caught:
        begin(bill)
    assert caught.value.until == shown.final_at


def test_what_a_wallet_was_given_is_shown_to_nobody(bill):
    payment = begin(bill)

    with pytest.raises(PaymentInProgress) as caught:
        invoices.get_or_issue_invoice(bill=bill)
    assert caught.value.until == payment.invoice.final_at


def test_the_database_holds_to_one_payer_and_one_request(bill, tenant):
    payment = begin(bill)
    shown = invoices.get_or_issue_invoice(bill=bill_for(tenant))
    now = timezone.now()

    for break_it in (
        lambda: LightningInvoice.objects.filter(pk=payment.invoice_id).update(
            shown_at=now
        ),
        lambda: NwcPayment.objects.create(
            invoice=shown,
            tenant=tenant,
            stripe_invoice_id="in_other",
            wallet_pubkey="",
            client_pubkey="",
        ),
        lambda: (
            NwcPayment.objects.filter(pk=payment.pk).update(
                request_event_id="a", sent_at=now
            ),
            NwcPayment.objects.filter(pk=payment.pk).update(request_event_id="b"),
        ),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            break_it()


def test_a_lost_message_is_found_by_the_sweep(alice, bill):
    payment = begin(bill)

    with (
        patch.object(run_nwc_payment, "delay") as delay,
        time_machine.travel(timezone.now() + timedelta(seconds=299)),
    ):
        resolve_payments()
    assert not delay.called
    with (
        patch.object(run_nwc_payment, "delay") as delay,
        time_machine.travel(timezone.now() + timedelta(seconds=301)),
    ):
        resolve_payments()
        resolve_payments()
    delay.assert_called_once_with(payment.pk)


def test_money_that_comes_after_a_refusal_is_seen(wallets, alice, bill):
    """A wallet that lies: it refuses, and pays all the same."""
    alice.behaviour = pays_but_says("INSUFFICIENT_BALANCE")

    payment = run(bill)

    assert payment.state == State.REFUSED
    assert check(payment).state == State.PAID
    with pytest.raises(AlreadySettled):
        begin(bill)


def test_a_dead_invoice_that_our_wallet_settles_after_all(
    settings, wallets, platform, alice, bill
):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = STAYS_SILENT
    payment = run(bill)
    with later(payment, 1):
        assert check(payment).state == State.FAILED
    alice.pay(payment.invoice.bolt11)

    invoice_status.check_payment_hashes(payment_hashes=[payment.invoice.payment_hash])

    payment.refresh_from_db()
    assert payment.state == State.PAID


def test_our_own_wallet_is_down_when_an_invoice_is_wanted(platform, bill):
    platform.go_offline()

    with pytest.raises(WalletError), patch.object(nwc, "QUICK", 1.0):
        begin(bill)
    assert not LightningInvoice.objects.exists()


def test_payer_and_receiver_may_be_the_same_wallet(wallets, platform, tenant, bill):
    wallets.ledger.deposit("platform", 10**9)
    connect_wallet(pubkey=tenant.pk, nwc_url=platform.url)

    assert run(bill).state == State.PAID
