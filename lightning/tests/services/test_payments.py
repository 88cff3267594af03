"""Attempts by a tenant's wallet, with every behaviour of a sandbox wallet."""

from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.db import IntegrityError, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from lightning.clients import nwc, nwc_info
from lightning.exceptions import (
    AlreadySettled,
    NoWallet,
    PaymentInProgress,
    RequestNotSent,
    WalletError,
)
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoice_status, invoices
from lightning.services.live_payments import live_payment
from lightning.services.payments import claim_unfinished
from lightning.services.wallets import connect_wallet, disconnect_wallet
from lightning.tasks import resolve_payments, run_nwc_payment
from lightning.tests.factories import make_payment_request
from lightning.tests.support.payments import (
    get_or_issue_invoice,
    run_payment,
    start_payment,
)
from sandbox.wallets import Terms
from sandbox.wallets.behaviour import (
    CLAIMS_FALSELY,
    PAYS,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    CorruptReply,
    LookupBehaviour,
    PaymentBehaviour,
    answers_after,
    pays_but_says,
    refuses,
    settles_late,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]

State = NwcPayment.State


def start(payment_request):
    return start_payment(payment_request)


def run(payment_request):
    return run_payment(payment_id=start(payment_request).pk)


def check(payment):
    invoice_status.check_invoice(invoice_id=payment.invoice_id)
    payment.refresh_from_db()
    return payment


def later(payment, seconds=0):
    """Travel to `final_at`, when «not paid» is final, plus some seconds."""
    when = payment.invoice.final_at + timedelta(seconds=seconds)
    return time_machine.travel(when, tick=True)


def test_wallet_pays_the_invoice(wallets, tenant, payment_request):
    payment = run(payment_request)

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


def test_payment_takes_few_queries(payment_request, django_assert_max_num_queries):
    payment = start(payment_request)

    with django_assert_max_num_queries(14):  # a savepoint's two are among them
        run_payment(payment_id=payment.pk)


def test_running_twice_sends_one_request(relay, alice, payment_request):
    payment = start(payment_request)

    run_payment(payment_id=payment.pk)
    run_payment(payment_id=payment.pk)

    assert len(alice.requests("pay_invoice")) == 1


def test_request_id_is_stored_before_the_request_is_sent(relay, payment_request):
    payment = start(payment_request)
    stored = []
    real = nwc.pay_each

    def look_first(orders):
        row = NwcPayment.objects.get(pk=payment.pk)
        stored.append((row.request_event_id, row.sent_at is not None, row.state))
        return real(orders)

    with patch.object(nwc, "pay_each", look_first):
        run_payment(payment_id=payment.pk)

    (event_id, is_sent, state) = stored[0]
    assert is_sent
    assert state == State.PENDING
    assert event_id in {event.id for event in relay.events(nwc.REQUEST)}


def test_attempt_is_enqueued_on_commit(
    payment_request, django_capture_on_commit_callbacks
):
    with (
        patch.object(run_nwc_payment, "apply_async") as send,
        django_capture_on_commit_callbacks(execute=True),
    ):
        payment = start(payment_request)

    send.assert_called_once_with((payment.pk,), {}, countdown=0)


def test_attempt_whose_message_was_not_sent_is_due_for_the_next_sweep(
    payment_request, django_capture_on_commit_callbacks
):
    with (
        patch.object(run_nwc_payment, "apply_async", side_effect=OperationalError),
        django_capture_on_commit_callbacks(execute=True),
    ):
        payment = start(payment_request)

    assert [payment.pk] in list(claim_unfinished())


@pytest.mark.parametrize(
    "code", ["INSUFFICIENT_BALANCE", "QUOTA_EXCEEDED", "EXPIRED", "RATE_LIMITED"]
)
def test_refusal_ends_the_attempt_and_expires_its_invoice(
    wallets, alice, tenant, payment_request, code
):
    alice.behaviour = refuses(code)

    payment = run(payment_request)

    assert (payment.state, payment.code) == (State.REFUSED, code)
    payment.invoice.refresh_from_db()
    assert payment.invoice.state == LightningInvoice.State.EXPIRED
    assert live_payment(payment_request.stripe_invoice_id) is None
    tenant.refresh_from_db()
    assert tenant.nwc_error.startswith("Your wallet did not pay: ")
    assert wallets.ledger.debits("alice") == []
    alice.behaviour = PAYS
    again = run(payment_request)
    assert again.state == State.PAID
    assert again.invoice.payment_hash != payment.invoice.payment_hash
    tenant.refresh_from_db()
    assert tenant.nwc_error == ""


def test_exhausted_budget_is_a_refusal(wallets, tenant, payment_request):
    bob = wallets.create("bob", balance_msat=10**9, terms=Terms(budget_msat=1_000))
    connect_wallet(pubkey=tenant.pk, nwc_url=bob.url)

    payment = run(payment_request)

    assert (payment.state, payment.code) == (State.REFUSED, "QUOTA_EXCEEDED")


PAID_UNKNOWN = [
    PAYS_WITHOUT_ANSWER,
    answers_after(60),
    pays_but_says("INTERNAL"),
    pays_but_says("PAYMENT_FAILED"),
    *(PaymentBehaviour(corruption=corruption) for corruption in CorruptReply),
]


@pytest.mark.parametrize("behaviour", PAID_UNKNOWN, ids=str)
def test_payment_is_known_from_our_wallet_after_an_inconclusive_reply(
    settings, wallets, alice, payment_request, behaviour
):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = behaviour

    payment = run(payment_request)

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
def test_inconclusive_reply_stays_pending_until_our_wallets_answer_is_final(
    settings, wallets, alice, tenant, payment_request, behaviour
):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = behaviour

    payment = run(payment_request)

    assert payment.state == State.PENDING
    tenant.refresh_from_db()
    assert tenant.nwc_error.startswith("Your wallet may have paid, or not")
    with pytest.raises(PaymentInProgress) as caught:
        start(payment_request)
    assert caught.value.until == payment.invoice.final_at
    with later(payment, -60):
        assert check(payment).state == State.PENDING
    with later(payment, 1):
        assert check(payment).state == State.FAILED
        assert live_payment(payment_request.stripe_invoice_id) is None
    assert wallets.ledger.debits("alice") == []


def test_payment_that_settles_after_payment_failed_is_paid(
    wallets, alice, payment_request
):
    alice.behaviour = settles_late(3_600)

    payment = run(payment_request)

    assert (payment.state, payment.code) == (State.PENDING, "PAYMENT_FAILED")
    with time_machine.travel(timezone.now() + timedelta(seconds=3_601), tick=True):
        wallets.schedule.run_due()
        assert check(payment).state == State.PAID
    assert wallets.ledger.debits("alice") == [payment.invoice.amount_msat]


def test_nothing_is_decided_while_our_wallet_is_down(
    settings, wallets, own_wallet, alice, tenant, payment_request
):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = STAYS_SILENT
    payment = run(payment_request)
    own_wallet.lookup_behaviour = LookupBehaviour(error="INTERNAL")

    with later(payment, 3_600):
        check(payment)

        assert payment.state == State.PENDING
        assert live_payment(payment_request.stripe_invoice_id) is not None
        with pytest.raises(PaymentInProgress):
            start(payment_request)
        with pytest.raises(PaymentInProgress):
            get_or_issue_invoice(payment_request)


@pytest.mark.parametrize("error", ["NOT_FOUND", "INTERNAL", "UNAUTHORIZED"])
def test_error_of_our_wallet_decides_nothing(
    settings, own_wallet, alice, payment_request, error
):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = STAYS_SILENT
    payment = run(payment_request)
    own_wallet.lookup_behaviour = LookupBehaviour(error=error)

    with later(payment, 3_600):
        assert check(payment).state == State.PENDING
        payment.invoice.refresh_from_db()
        assert payment.invoice.failures == 1


@pytest.mark.parametrize("detected", ["before", "while sending"])
def test_unreachable_relay_means_not_sent(relay, alice, payment_request, detected):
    payment = start(payment_request)
    relay.go_offline()
    if detected == "before":
        nwc_info.clear_scheme_cache()

    run_payment(payment_id=payment.pk)

    payment.refresh_from_db()
    assert (payment.state, payment.code) == (State.REFUSED, "NOT_SENT")
    assert (payment.request_event_id is None) == (detected == "before")
    relay.go_online()
    assert alice.requests("pay_invoice") == []


def test_invoice_about_to_expire_is_not_sent(alice, payment_request):
    payment = start(payment_request)

    with time_machine.travel(payment.invoice.expires_at - timedelta(seconds=50)):
        run_payment(payment_id=payment.pk)

    payment.refresh_from_db()
    assert (payment.state, payment.code) == (State.REFUSED, "NOT_SENT")
    assert alice.requests("pay_invoice") == []


def test_failure_before_sending_does_not_close_another_workers_request(
    relay, settings, alice, payment_request
):
    """Two workers have the same message; one loses its relay before it sends."""
    settings.NWC_TIMEOUT = 1
    alice.behaviour = STAYS_SILENT
    payment = start(payment_request)
    real = nwc.learn_schemes

    def another_first(wallets):
        with patch.object(nwc, "learn_schemes", real):
            run_payment(payment_id=payment.pk)
        return [RequestNotSent("the relay is gone") for _ in wallets]

    with patch.object(nwc, "learn_schemes", another_first):
        run_payment(payment_id=payment.pk)

    payment.refresh_from_db()
    assert payment.state == State.PENDING
    assert payment.request_event_id


def test_changing_wallets_does_not_affect_a_pending_attempt(
    wallets, alice, tenant, payment_request
):
    payment = start(payment_request)
    bob = wallets.create("bob", balance_msat=10**9)
    connect_wallet(pubkey=tenant.pk, nwc_url=bob.url)

    assert run_payment(payment_id=payment.pk).state == State.PAID
    assert wallets.ledger.debits("alice") == [payment.invoice.amount_msat]
    assert bob.requests("pay_invoice") == []


def test_error_of_the_old_wallet_is_not_shown_for_the_new_one(
    wallets, alice, tenant, payment_request
):
    alice.behaviour = refuses("INSUFFICIENT_BALANCE")
    payment = start(payment_request)
    bob = wallets.create("bob")
    connect_wallet(pubkey=tenant.pk, nwc_url=bob.url)

    run_payment(payment_id=payment.pk)

    tenant.refresh_from_db()
    assert tenant.nwc_error == ""


def test_no_invoice_is_issued_without_a_wallet(own_wallet, tenant, payment_request):
    disconnect_wallet(pubkey=tenant.pk)

    with pytest.raises(NoWallet):
        start(payment_request)
    assert own_wallet.requests("make_invoice") == []


def test_wallet_disconnected_during_issuing_is_not_charged(tenant, payment_request):
    real = invoices.issue_invoice

    def issue_slowly(*, payment_request):
        issued = real(payment_request=payment_request)
        disconnect_wallet(pubkey=tenant.pk)
        return issued

    with patch.object(invoices, "issue_invoice", issue_slowly), pytest.raises(NoWallet):
        start(payment_request)
    assert not LightningInvoice.objects.exists()


def test_second_attempt_is_refused_while_one_is_pending(payment_request):
    start(payment_request)

    with pytest.raises(PaymentInProgress):
        start(payment_request)
    assert NwcPayment.objects.count() == 1


def test_settled_invoice_is_not_paid_again(payment_request):
    run(payment_request)

    with pytest.raises(AlreadySettled):
        start(payment_request)


def test_no_wallet_payment_while_an_invoice_is_presented(payment_request):
    presented = get_or_issue_invoice(payment_request)

    with pytest.raises(PaymentInProgress) as caught:
        start(payment_request)
    assert caught.value.until == presented.final_at


def test_no_invoice_is_presented_while_a_wallet_payment_is_pending(payment_request):
    payment = start(payment_request)

    with pytest.raises(PaymentInProgress) as caught:
        get_or_issue_invoice(payment_request)
    assert caught.value.until == payment.invoice.final_at


def test_database_enforces_one_payer_and_one_request(payment_request, tenant):
    payment = start(payment_request)
    presented = get_or_issue_invoice(make_payment_request(tenant))
    now = timezone.now()

    for violation in (
        lambda: LightningInvoice.objects.filter(pk=payment.invoice_id).update(
            shown_at=now
        ),
        lambda: NwcPayment.objects.create(
            invoice=presented,
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
            violation()


def test_sweep_enqueues_an_attempt_whose_message_was_lost(alice, payment_request):
    payment = start(payment_request)

    with (
        patch.object(run_nwc_payment, "delay") as delay,
        time_machine.travel(timezone.now() + timedelta(seconds=299)),
    ):
        resolve_payments()
    delay.assert_not_called()
    with (
        patch.object(run_nwc_payment, "delay") as delay,
        time_machine.travel(timezone.now() + timedelta(seconds=301)),
    ):
        resolve_payments()
        resolve_payments()
    delay.assert_called_once_with(payment.pk)


def test_payment_after_a_refusal_is_recorded(wallets, alice, payment_request):
    """The wallet lies: it refuses, and pays all the same."""
    alice.behaviour = pays_but_says("INSUFFICIENT_BALANCE")

    payment = run(payment_request)

    assert (payment.state, payment.code) == (State.PAID, "INSUFFICIENT_BALANCE")
    with pytest.raises(AlreadySettled):
        start(payment_request)


def test_dead_invoice_that_is_paid_after_all_is_settled(
    settings, wallets, own_wallet, alice, payment_request
):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = STAYS_SILENT
    payment = run(payment_request)
    with later(payment, 1):
        assert check(payment).state == State.FAILED
    alice.pay(payment.invoice.bolt11)

    invoice_status.check_payment_hashes(payment_hashes=[payment.invoice.payment_hash])

    payment.refresh_from_db()
    assert payment.state == State.PAID


def test_nothing_is_stored_if_our_wallet_cannot_issue(own_wallet, payment_request):
    own_wallet.go_offline()

    with pytest.raises(WalletError), patch.object(nwc, "TIMEOUT", 1.0):
        start(payment_request)
    assert not LightningInvoice.objects.exists()


def test_payer_and_receiver_can_be_the_same_wallet(
    wallets, own_wallet, tenant, payment_request
):
    wallets.ledger.deposit("platform", 10**9)
    connect_wallet(pubkey=tenant.pk, nwc_url=own_wallet.url)

    assert run(payment_request).state == State.PAID
