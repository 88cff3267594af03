"""Errors that nobody expects, of one attempt of a batch: the others go on."""

from unittest.mock import patch

import pytest

from lightning.clients.nwc import Wallet
from lightning.clients.nwc_requests import Client
from lightning.models import NwcPayment
from lightning.services import attempts, endings, invoice_status, outcomes
from lightning.services.payments import run_payments
from lightning.tests.support.batches import run_batch, start_payments
from sandbox.wallets.behaviour import answers_after, refuses

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]


@pytest.fixture
def due(wallets) -> list[NwcPayment]:
    return start_payments(wallets, "alice", "bob", "carol")


def fails_for(victim, function, key_of):
    """Return the function, but with an error for one attempt."""

    def call(*args, **options):
        if key_of(*args) == victim:
            raise RuntimeError("a bug")
        return function(*args, **options)

    return call


def test_request_that_cannot_be_built_is_left_to_the_sweep(due):
    victim = due[0].client_pubkey
    prepare = fails_for(
        victim, Wallet.prepare_payment, lambda wallet: wallet.uri.client_pubkey
    )

    with patch.object(Wallet, "prepare_payment", prepare):
        assert run_batch(due) == ["pending", "paid", "paid"]

    unsent = NwcPayment.objects.unsent()
    assert list(unsent) == [due[0]]


def test_reply_that_causes_an_error_leaves_one_outcome_unknown(due):
    victim = due[0].client_pubkey
    read = fails_for(victim, Client.read, lambda client, *_: client.uri.client_pubkey)

    with patch.object(Client, "read", read):
        run_batch(due)

    first, *others = NwcPayment.objects.order_by("pk")
    assert first.code == "nwc-reply-invalid"
    assert all(other.proven_at for other in others)


def test_refusal_that_cannot_be_recorded_keeps_no_other_from_it(due, wallets):
    for name in ("alice", "bob", "carol"):
        wallets[name].behaviour = refuses("RESTRICTED")
    close = fails_for(
        due[0].pk, attempts.close_as_refused, lambda payment, *_: payment.pk
    )

    with patch.object(attempts, "close_as_refused", close):
        assert run_batch(due) == ["pending", "refused", "refused"]


def test_invoice_that_cannot_be_settled_keeps_no_other_from_it(due):
    """Neither in a transaction of all, nor in its own."""
    settle = fails_for(due[0].invoice_id, endings.settle, lambda invoice, _: invoice.pk)

    with patch.object(outcomes, "settle", settle):
        assert run_batch(due) == ["pending", "paid", "paid"]

    assert all(payment.proven_at for payment in NwcPayment.objects.all())


def test_failed_poll_ends_no_wait_for_the_other_wallets(due, wallets):
    wallets["carol"].behaviour = answers_after(1)

    with patch.object(invoice_status, "poll_invoices", side_effect=RuntimeError("bug")):
        assert run_batch(due) == ["pending"] * 3

    assert all(payment.proven_at for payment in NwcPayment.objects.all())


def test_unreadable_connection_keeps_no_other_wallet_from_naming_its_node(due):
    with patch.object(invoice_status, "poll_invoices", return_value=0):
        run_batch(due)
    NwcPayment.objects.update(node_pubkey="")
    NwcPayment.objects.filter(pk=due[0].pk).update(nwc_url="not a wallet's")

    with patch.object(invoice_status, "poll_invoices", return_value=0):
        run_payments(payment_ids=[payment.pk for payment in due])

    first, *others = NwcPayment.objects.order_by("pk")
    assert (first.node_pubkey, first.last_error_code) == ("", "wallet-missing")
    assert all(other.node_pubkey for other in others)
