"""Refusals: our own wallet must confirm those that can follow a sent payment."""

from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine

from caravel.tests.support.celery_tasks import run_each
from lightning.exceptions import AlreadySettled, PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoice_status, outcomes
from lightning.services.live_payments import live_payment
from lightning.tasks import poll_wallet, watch_invoices
from lightning.tests.support.answers import (
    ERROR,
    HELD,
    OUTGOING,
    SILENCE,
    answer_lookups,
)
from lightning.tests.support.payments import (
    get_or_issue_invoice,
    run_payment,
    start_payment,
)
from sandbox.wallets.behaviour import ListBehaviour, refuses, settles_late

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]

State = NwcPayment.State
PAUSE = 60


@pytest.fixture(autouse=True)
def pause(settings):
    settings.LIGHTNING_REFUSAL_PAUSE = PAUSE


def run(payment_request):
    return run_payment(payment_id=start_payment(payment_request).pk)


def after_refusal(payment, seconds):
    when = payment.refused_at + timedelta(seconds=seconds)
    return time_machine.travel(when, tick=True)


def beat():
    """Run the task of a beat, and the tasks that it enqueues."""
    with patch.object(poll_wallet, "delay_many", side_effect=run_each(poll_wallet)):
        watch_invoices()


@pytest.mark.parametrize(
    "code", ["INSUFFICIENT_BALANCE", "QUOTA_EXCEEDED", "RATE_LIMITED", "BAD_REQUEST"]
)
def test_refusal_that_can_follow_a_payment_waits_for_our_wallet(
    wallets, alice, tenant, payment_request, code
):
    alice.behaviour = refuses(code)

    payment = run(payment_request)

    assert (payment.state, payment.code) == (State.PENDING, code)
    assert payment.invoice.state == LightningInvoice.State.EXPIRED
    until = payment.refused_at + timedelta(seconds=PAUSE)
    for act in (start_payment, get_or_issue_invoice):
        with pytest.raises(PaymentInProgress) as caught:
            act(payment_request)
        assert caught.value.until == until
    with after_refusal(payment, PAUSE - 2):
        invoice_status.check_invoice(invoice_id=payment.invoice_id)
        payment.refresh_from_db()
        assert payment.state == State.PENDING
    with after_refusal(payment, PAUSE + 1):
        beat()
    payment.refresh_from_db()
    tenant.refresh_from_db()
    assert payment.state == State.REFUSED
    assert live_payment(payment_request.stripe_invoice_id) is None
    assert tenant.nwc_error.startswith("Your wallet did not pay: ")
    assert wallets.ledger.debits("alice") == []


def test_refused_payment_is_looked_up_after_the_pause_and_not_before(
    own_wallet, alice, payment_request
):
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    payment = run(payment_request)

    with after_refusal(payment, PAUSE - 1):
        beat()
    assert own_wallet.requests("lookup_invoice") == []
    with after_refusal(payment, PAUSE + 1):
        beat()
    assert len(own_wallet.requests("lookup_invoice")) == 1


def test_refusal_that_pays_later_is_paid_once(wallets, alice, payment_request):
    """nostr-wallet-connect-lnd refuses like this when it loses its node."""
    alice.behaviour = settles_late(30, "INSUFFICIENT_BALANCE")
    payment = run(payment_request)

    with after_refusal(payment, PAUSE + 1):
        wallets.schedule.run_due()
        beat()

    payment.refresh_from_db()
    assert payment.state == State.PAID
    assert wallets.ledger.debits("alice") == [payment.invoice.amount_msat]
    with pytest.raises(AlreadySettled):
        start_payment(payment_request)


@pytest.mark.parametrize(
    "code",
    [
        "UNAUTHORIZED",
        "RESTRICTED",
        "NOT_IMPLEMENTED",
        "UNSUPPORTED_ENCRYPTION",
        "EXPIRED",
    ],
)
def test_refusal_before_anything_is_sent_ends_the_attempt_at_once(
    alice, payment_request, code
):
    alice.behaviour = refuses(code)

    payment = run(payment_request)

    assert (payment.state, payment.code) == (State.REFUSED, code)
    assert live_payment(payment_request.stripe_invoice_id) is None


@pytest.mark.parametrize("answer", [SILENCE, ERROR, HELD, OUTGOING], ids=repr)
def test_refusal_stays_unconfirmed_without_a_clear_word_of_our_wallet(
    own_wallet, alice, payment_request, monkeypatch, answer
):
    own_wallet.list_behaviour = ListBehaviour(error="NOT_IMPLEMENTED")
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    payment = run(payment_request)
    with monkeypatch.context() as patched:
        answer_lookups(patched, answer)

        with after_refusal(payment, PAUSE + 1):
            beat()

            payment.refresh_from_db()
            assert payment.state == State.PENDING
            live = live_payment(payment_request.stripe_invoice_id)
            assert live
            assert live.until is None  # not a time in the past
            with pytest.raises(PaymentInProgress) as caught:
                get_or_issue_invoice(payment_request)
            assert caught.value.until is None
    with after_refusal(payment, 15 * 60):
        beat()
    payment.refresh_from_db()
    assert payment.state == State.REFUSED


def test_alert_about_an_ended_attempt_does_not_say_that_the_invoice_waits(
    own_wallet, alice, payment_request, monkeypatch
):
    own_wallet.list_behaviour = ListBehaviour(error="NOT_IMPLEMENTED")
    alice.behaviour = refuses("UNAUTHORIZED")
    invoice = run(payment_request).invoice
    answer_lookups(monkeypatch, OUTGOING)

    with (
        time_machine.travel(invoice.final_at + timedelta(seconds=1), tick=True),
        patch.object(outcomes, "alert_support") as alert,
    ):
        beat()

    assert live_payment(payment_request.stripe_invoice_id) is None
    assert "does not wait" in alert.call_args.args[1]


def test_second_worker_neither_sends_again_nor_ends_a_refused_attempt(
    alice, payment_request
):
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    payment = run(payment_request)

    again = run_payment(payment_id=payment.pk)

    assert again.state == State.PENDING
    assert len(alice.requests("pay_invoice")) == 1


def test_refused_attempt_that_is_never_confirmed_ends_with_its_invoice(
    alice, payment_request
):
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    payment = run(payment_request)

    with time_machine.travel(payment.invoice.final_at + timedelta(seconds=1)):
        invoice_status.check_invoice(invoice_id=payment.invoice_id)

    payment.refresh_from_db()
    payment.invoice.refresh_from_db()
    assert payment.state == State.REFUSED
    assert payment.invoice.state == LightningInvoice.State.DEAD
