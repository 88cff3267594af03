"""The payer's preimage: stored at once, and proof unless payer and payee may be one."""

from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.utils import timezone

from caravel.core.db.encrypted_text import Secret
from lightning.clients import nwc
from lightning.clients.bolt11 import decode
from lightning.exceptions import PaymentInProgress, WalletFailed
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoice_status
from lightning.services.live_payments import live_payment
from lightning.services.wallets import connect_wallet
from lightning.tasks import resolve_payments, run_nwc_payment
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
from sandbox.wallets.behaviour import CorruptReply, ListBehaviour, PaymentBehaviour

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]

State = NwcPayment.State
OTHER_NODE = "02" + "ab" * 32


@pytest.fixture(autouse=True)
def no_list(own_wallet):
    """Our wallet cannot be asked otherwise than by a look-up."""
    own_wallet.list_behaviour = ListBehaviour(error="NOT_IMPLEMENTED")


def pay(payment_request, monkeypatch, answer):
    """Pay by the tenant's wallet, while ours answers all look-ups like this."""
    answer_lookups(monkeypatch, answer)
    return reload(run_payment(payment_id=start_payment(payment_request).pk))


def check(payment):
    invoice_status.check_invoice(invoice_id=payment.invoice_id)
    return reload(payment)


def reload(payment):
    return NwcPayment.objects.select_related("invoice").get(pk=payment.pk)


def later(payment, seconds=1):
    when = payment.invoice.final_at + timedelta(seconds=seconds)
    return time_machine.travel(when, tick=True)


def store_node(payment, node_pubkey):
    NwcPayment.objects.filter(pk=payment.pk).update(node_pubkey=node_pubkey)


@pytest.mark.parametrize("answer", [UNPAID, SILENCE, OUTGOING], ids=repr)
def test_preimage_is_stored_though_our_wallet_does_not_show_the_payment(
    wallets, payment_request, monkeypatch, answer
):
    payment = pay(payment_request, monkeypatch, answer)

    issued = wallets.ledger.invoice(payment_hash=payment.invoice.payment_hash)
    assert payment.state == State.PENDING
    assert payment.preimage.reveal() == issued.preimage
    assert payment.proven_at
    for act in (start_payment, get_or_issue_invoice):
        with pytest.raises(PaymentInProgress) as caught:
            act(payment_request)
        assert caught.value.until == payment.invoice.final_at


def test_preimage_is_stored_before_our_wallet_is_asked(payment_request, monkeypatch):
    def crash(self, payment_hashes, *, timeout=None):
        raise SystemExit("killed")

    monkeypatch.setattr(nwc.Wallet, "lookup_invoices", crash)
    payment = start_payment(payment_request)

    with pytest.raises(SystemExit):
        run_payment(payment_id=payment.pk)

    assert reload(payment).preimage.reveal()


def test_preimage_of_another_hash_is_no_proof(alice, payment_request, monkeypatch):
    alice.behaviour = PaymentBehaviour(corruption=CorruptReply.WRONG_PREIMAGE)

    payment = pay(payment_request, monkeypatch, UNPAID)

    assert not payment.preimage
    assert payment.proven_at is None


def test_proven_payment_that_our_wallet_shows_later_is_paid_as_any_other(
    payment_request, monkeypatch, alerts
):
    with monkeypatch.context() as patched:
        payment = pay(payment_request, patched, UNPAID)

    assert check(payment).state == State.PAID
    assert not alerts.called


@pytest.mark.parametrize("answer", [UNPAID, HELD, OUTGOING, SILENCE, ERROR], ids=repr)
def test_proof_of_another_node_settles_when_our_wallet_had_its_time(
    payment_request, monkeypatch, alerts, answer
):
    payment = pay(payment_request, monkeypatch, answer)
    store_node(payment, OTHER_NODE)

    with later(payment, -1):
        assert check(payment).state == State.PENDING
    assert not alerts.called
    with later(payment):
        payment = check(payment)

    invoice = payment.invoice
    assert payment.state == State.PAID
    assert invoice.state == LightningInvoice.State.SETTLED
    assert invoice.received_msat == invoice.amount_msat
    assert invoice.preimage.reveal() == payment.preimage.reveal()
    assert invoice.settled_at == payment.proven_at
    assert alerts.call_args.args[0] == "settled_by_proof"


@pytest.mark.parametrize("node", ["", "the payee's"])
def test_proof_of_what_may_be_our_own_node_is_left_to_support(
    payment_request, monkeypatch, alerts, node
):
    payment = pay(payment_request, monkeypatch, UNPAID)
    store_node(payment, node and decode(payment.invoice.bolt11).payee)

    with later(payment):
        payment = check(payment)

        assert payment.state == State.PENDING
        assert payment.invoice.contradicted_at
        assert payment.invoice.answer == UNPAID.answer
        assert alerts.call_args.args[0] == "payment_contradicted"
        live = live_payment(payment_request.stripe_invoice_id)
        assert live
        assert live.until is None
        for act in (start_payment, get_or_issue_invoice):
            with pytest.raises(PaymentInProgress) as caught:
                act(payment_request)
            assert caught.value.until is None


def test_proof_by_our_own_wallet_service_is_left_to_support(
    wallets, own_wallet, tenant, payment_request, monkeypatch
):
    wallets.ledger.deposit("platform", 10**9)
    connect_wallet(pubkey=tenant.pk, nwc_url=own_wallet.url)
    payment = pay(payment_request, monkeypatch, UNPAID)
    store_node(payment, OTHER_NODE)

    with later(payment):
        assert check(payment).state == State.PENDING


def test_contradiction_ends_when_our_wallet_shows_the_payment(
    payment_request, monkeypatch
):
    with monkeypatch.context() as patched:
        payment = pay(payment_request, patched, UNPAID)
        store_node(payment, "")
        with later(payment):
            assert check(payment).invoice.contradicted_at
    with later(payment, 3_600):
        payment = check(payment)

    assert payment.state == State.PAID
    assert payment.invoice.contradicted_at is None


def test_contradiction_is_polled_every_hour_and_reported_each_time(
    payment_request, monkeypatch, alerts
):
    payment = pay(payment_request, monkeypatch, UNPAID)
    store_node(payment, "")

    with later(payment):
        asked_at = timezone.now()
        invoice = check(payment).invoice
        first = invoice.contradicted_at
        assert asked_at + timedelta(minutes=59) < invoice.next_attempt_at
    with later(payment, 3_700):
        invoice = check(payment).invoice

    assert invoice.contradicted_at == first
    assert alerts.call_count == 2


def test_node_of_the_tenants_wallet_is_asked_only_for_a_missing_settlement(
    alice, payment_request, monkeypatch
):
    run_payment(payment_id=start_payment(payment_request).pk)
    asked = len(alice.requests("get_info"))
    tenant = tenant_with(alice)

    payment = pay(make_payment_request(tenant), monkeypatch, UNPAID)

    assert asked == 1  # when it was connected
    assert len(alice.requests("get_info")) == asked + 2
    assert payment.node_pubkey not in ("", decode(payment.invoice.bolt11).payee)


def test_sweep_asks_again_for_a_node_that_was_not_named(payment_request, monkeypatch):
    failure = WalletFailed("Busy.", nwc_code="INTERNAL")
    with patch.object(nwc, "get_infos", return_value=[failure]):
        payment = pay(payment_request, monkeypatch, UNPAID)
    assert (payment.node_pubkey, payment.failures) == ("", 1)

    with (
        time_machine.travel(timezone.now() + timedelta(minutes=1), tick=True),
        patch.object(run_nwc_payment, "delay", side_effect=run_nwc_payment) as delay,
    ):
        resolve_payments()
        resolve_payments()

    delay.assert_called_once_with(payment.pk)
    payment = reload(payment)
    assert payment.node_pubkey
    assert payment.failures == 0


def test_proof_settles_though_the_key_of_its_preimage_is_lost(
    payment_request, monkeypatch
):
    """Otherwise the polls of all invoices in its batch would end with it."""
    payment = pay(payment_request, monkeypatch, UNPAID)
    store_node(payment, OTHER_NODE)
    other = make_invoice(payment.tenant, payment.invoice.wallet_pubkey)
    NwcPayment.objects.filter(pk=payment.pk).update(preimage=Secret("gAAAAAB-lost"))

    with later(payment):
        invoice_status.poll_invoices(
            wallet_pubkey=other.wallet_pubkey,
            invoice_ids=[payment.invoice_id, other.pk],
        )

    other.refresh_from_db()
    assert reload(payment).state == State.PAID
    assert other.answer == UNPAID.answer
