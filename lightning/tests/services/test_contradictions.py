"""Answers of our wallet that decide nothing, and the ways out of them."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from lightning.clients.nwc_replies import Lookup, Status
from lightning.exceptions import PaymentInProgress
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoice_status
from lightning.services.live_payments import live_payment
from lightning.services.outcomes import apply_answer
from lightning.services.wallets import connect_wallet
from lightning.tests.factories import (
    make_invoice,
    make_payment_request,
    tenant_with,
)
from lightning.tests.support.answers import (
    ERROR,
    HELD,
    OUTGOING,
    SILENCE,
    UNPAID,
    answer_lookups,
)
from lightning.tests.support.payments import (
    get_or_issue_invoice,
    run_payment,
    start_payment,
)
from sandbox.wallets.behaviour import ListBehaviour
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]

State = LightningInvoice.State


@pytest.fixture
def presented(own_wallet):
    return get_or_issue_invoice(make_payment_request(TenantFactory()))


def at(when):
    return time_machine.travel(when, tick=True)


def check(invoice):
    return invoice_status.check_invoice(invoice_id=invoice.pk)


def test_payment_that_failed_within_one_hub_lets_the_next_rail_start(
    own_wallet, monkeypatch
):
    """Our hub answers with its failed payment; its list has the unpaid invoice."""
    payment_request = make_payment_request(tenant_with(own_wallet))
    answer_lookups(monkeypatch, OUTGOING)

    payment = run_payment(payment_id=start_payment(payment_request).pk)

    assert (payment.state, payment.code) == (
        NwcPayment.State.REFUSED,
        "INSUFFICIENT_BALANCE",
    )
    assert len(own_wallet.requests("list_transactions")) == 1
    assert live_payment(payment_request.stripe_invoice_id) is None


def test_payment_within_one_hub_is_found_in_its_list(wallets, own_wallet, monkeypatch):
    tenant = tenant_with(own_wallet)
    wallets.ledger.deposit("platform", 10**9)
    connect_wallet(pubkey=tenant.pk, nwc_url=own_wallet.url)
    answer_lookups(monkeypatch, OUTGOING)
    request = make_payment_request(tenant)

    payment = run_payment(payment_id=start_payment(request).pk)

    assert payment.state == NwcPayment.State.PAID


def test_presented_invoice_of_which_only_the_list_knows_is_dead_in_time(
    presented, monkeypatch
):
    answer_lookups(monkeypatch, OUTGOING)

    with at(presented.final_at + timedelta(seconds=1)):
        assert check(presented).state == State.DEAD


@pytest.mark.parametrize("answer", [OUTGOING, HELD], ids=repr)
def test_contradiction_without_a_way_out_is_left_to_support(
    own_wallet, presented, monkeypatch, alerts, answer
):
    own_wallet.list_behaviour = ListBehaviour(error="NOT_IMPLEMENTED")
    answer_lookups(monkeypatch, answer)

    with at(presented.final_at - timedelta(seconds=2)):
        assert check(presented).contradicted_at is None
    with at(presented.final_at + timedelta(seconds=1)):
        invoice = check(presented)
        live = live_payment(invoice.stripe_invoice_id)

    assert invoice.state == State.EXPIRED
    assert invoice.contradicted_at
    assert invoice.answer == answer.answer
    assert live
    assert live.until is None
    assert alerts.call_args.args[0] == "payment_contradicted"
    assert alerts.call_args.kwargs["payment_hash"] == invoice.payment_hash


def test_click_on_a_contradicted_invoice_gets_no_time_in_the_past(
    own_wallet, presented, monkeypatch
):
    own_wallet.list_behaviour = ListBehaviour(error="NOT_IMPLEMENTED")
    answer_lookups(monkeypatch, OUTGOING)
    request = make_payment_request(
        presented.tenant, stripe_invoice_id=presented.stripe_invoice_id
    )

    for delay in (timedelta(minutes=16), timedelta(hours=4)):
        with at(presented.issued_at + delay):
            with pytest.raises(PaymentInProgress) as caught:
                get_or_issue_invoice(request)
            assert caught.value.until is None
            check(presented)


def test_answer_before_the_contradiction_lets_no_other_invoice_be_presented(
    own_wallet, presented, monkeypatch
):
    """Our wallet has said no after the expiry, but not when that is final."""
    own_wallet.list_behaviour = ListBehaviour(error="NOT_IMPLEMENTED")
    request = make_payment_request(
        presented.tenant, stripe_invoice_id=presented.stripe_invoice_id
    )
    with at(presented.expires_at + timedelta(minutes=2)):
        assert check(presented).answered_at
    answer_lookups(monkeypatch, OUTGOING)

    with at(presented.final_at + timedelta(seconds=1)):
        assert check(presented).contradicted_at
        with pytest.raises(PaymentInProgress, match="our support") as caught:
            get_or_issue_invoice(request)

    assert caught.value.until is None
    assert LightningInvoice.objects.count() == 1


def test_contradiction_ends_with_a_readable_no(own_wallet, presented, monkeypatch):
    own_wallet.list_behaviour = ListBehaviour(error="NOT_IMPLEMENTED")
    with monkeypatch.context() as patched, at(presented.final_at):
        answer_lookups(patched, OUTGOING)
        assert check(presented).contradicted_at
    answer_lookups(monkeypatch, UNPAID)

    with at(presented.final_at + timedelta(hours=1)):
        invoice = check(presented)

    assert (invoice.state, invoice.contradicted_at) == (State.DEAD, None)


def test_errors_are_left_to_support_only_when_they_last(presented, monkeypatch, alerts):
    answer_lookups(monkeypatch, ERROR)
    with at(presented.final_at + timedelta(minutes=59)):
        assert check(presented).contradicted_at is None
    with at(presented.final_at + timedelta(minutes=61)):
        assert check(presented).contradicted_at

    assert alerts.call_count == 1


def test_silence_of_our_wallet_is_an_outage_and_no_contradiction(
    presented, monkeypatch, alerts
):
    answer_lookups(monkeypatch, SILENCE)

    with at(presented.final_at + timedelta(minutes=59)):
        check(presented)
    assert not alerts.called
    with at(presented.final_at + timedelta(minutes=61)):
        assert check(presented).contradicted_at is None

    assert alerts.call_args.args[0] == "own_wallet_silent"
    assert alerts.call_args.kwargs == {"wallet": presented.wallet_pubkey}


def test_unclear_answer_is_no_answer(own_wallet, presented, monkeypatch):
    own_wallet.list_behaviour = ListBehaviour(error="NOT_IMPLEMENTED")
    answer_lookups(monkeypatch, OUTGOING)

    invoice = check(presented)

    assert invoice.state == State.OPEN
    assert invoice.answered_at is None
    assert invoice.answer == OUTGOING.answer
    assert invoice.last_error_code == "nwc-reply-invalid"


def test_only_a_few_invoices_of_a_batch_are_searched(own_wallet, monkeypatch):
    tenant = TenantFactory()
    rows = [make_invoice(tenant, own_wallet.pubkey) for _ in range(9)]
    answer_lookups(monkeypatch, OUTGOING)
    searched = []

    def search(self, payment_hash, *, issued_at):
        searched.append(payment_hash)
        return UNPAID

    monkeypatch.setattr("lightning.clients.nwc.Wallet.find_incoming", search)

    invoice_status.poll_invoices(
        wallet_pubkey=own_wallet.pubkey, invoice_ids=[row.pk for row in rows]
    )

    assert len(set(searched)) == len(searched) == 5
    answered = LightningInvoice.objects.filter(answer=UNPAID.answer)
    assert {row.payment_hash for row in answered} == {*searched}


def test_payer_who_waits_does_not_wait_for_a_search(own_wallet, presented, monkeypatch):
    answer_lookups(monkeypatch, OUTGOING)

    invoice_status.check_invoice(invoice_id=presented.pk, timeout=3.0)

    assert own_wallet.requests("list_transactions") == []


@pytest.mark.parametrize(
    ("reported", "booked", "alarms"),
    [(2, 2, 0), (2.001, 1, 1), (1_000, 1, 1)],
    ids=["twice", "more than twice", "thousand times"],
)
def test_implausible_amount_is_booked_as_asked_and_reported(
    presented, alerts, reported, booked, alarms
):
    asked = presented.amount_msat
    answer = Lookup(Status.SETTLED, amount_msat=round(asked * reported))

    apply_answer(presented.pk, answer, timezone.now())

    presented.refresh_from_db()
    assert presented.state == State.SETTLED
    assert presented.received_msat == asked * booked
    assert alerts.call_count == alarms
