"""Cases: payments by the wallet, and those that it refuses."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from caravel.tests.support.waiting import wait_until
from interop.tests.support.clients import ClientError, Issued
from sandbox.wallets import Wallets

pytestmark = pytest.mark.interop


def issue(wallet, amount_msat=5_000, **options):
    """Return an invoice of a wallet of the sandbox."""
    invoice = wallet.issue(amount_msat, **options)
    return Issued(invoice.bolt11, invoice.payment_hash)


def test_payment_moves_the_amount_and_returns_the_preimage(wallets, bob, client):
    issued = issue(bob)

    preimage = client.pay_invoice(issued)

    paid = wallets.ledger.invoice(payment_hash=issued.payment_hash)
    assert (paid.payer, paid.preimage) == ("alice", preimage)
    assert wallets.ledger.debits("alice") == [5_000]
    assert client.get_balance() == 10**9 - 5_000


def test_payment_received_raises_the_balance(bob, client):
    issued = client.make_invoice(7_000)

    bob.pay(issued.bolt11)

    assert client.get_balance() == 10**9 + 7_000


def test_payments_are_listed(bob, client):
    received = client.make_invoice(7_000)
    bob.pay(received.bolt11)
    sent = issue(bob)
    client.pay_invoice(sent)

    listed = client.request("list_transactions", {})["transactions"]

    assert {each["payment_hash"]: each["type"] for each in listed} == {
        received.payment_hash: "incoming",
        sent.payment_hash: "outgoing",
    }


def test_payment_above_the_balance_is_refused(wallets, bob, client):
    issued = issue(bob, 10**9 + 1_000)

    with pytest.raises(ClientError) as caught:
        client.pay_invoice(issued)

    assert caught.value.code == "INSUFFICIENT_BALANCE"
    assert wallets.ledger.debits("alice") == []


def test_second_payment_of_an_invoice_moves_nothing(wallets, bob, client):
    issued = issue(bob)
    client.pay_invoice(issued)

    with pytest.raises(ClientError) as caught:
        client.pay_invoice(issued)

    assert caught.value.code == "INTERNAL"
    assert wallets.ledger.debits("alice") == [5_000]


def test_payment_of_an_expired_invoice_fails(wallets, bob, client):
    with time_machine.travel(timezone.now() - timedelta(days=1)):
        issued = issue(bob, expiry=60)

    with pytest.raises(ClientError) as caught:
        client.pay_invoice(issued)

    assert caught.value.code == "PAYMENT_FAILED"
    assert wallets.ledger.debits("alice") == []


def test_payment_without_a_route_fails(relay, wallets, bob, client):
    elsewhere = Wallets(relay.url)
    issued = issue(elsewhere.create("carol"))
    elsewhere.stop()

    with pytest.raises(ClientError) as caught:
        client.pay_invoice(issued)

    assert caught.value.code == "PAYMENT_FAILED"
    assert wallets.ledger.debits("alice") == []


def test_simultaneous_payments_are_each_made_once(wallets, bob, client):
    invoices = [issue(bob, amount) for amount in (5_000, 6_000, 7_000)]

    with ThreadPoolExecutor() as threads:
        preimages = list(threads.map(client.pay_invoice, invoices))

    paid = [wallets.ledger.invoice(payment_hash=each.payment_hash) for each in invoices]
    assert preimages == [invoice.preimage for invoice in paid]
    assert sorted(wallets.ledger.debits("alice")) == [5_000, 6_000, 7_000]


def test_client_is_notified_of_a_received_payment_once(bob, client):
    assert "payment_received" in client.get_info().notifications
    client.listen()
    paid = []

    def is_notified():
        # Relays do not store notifications, and the client may not yet listen.
        issued = client.make_invoice(7_000)
        paid.append(bob.pay(issued.bolt11).payment_hash)
        return client.received

    wait_until(is_notified)
    client.get_balance()
    assert set(client.received) <= set(paid)
    assert len(client.received) == len(set(client.received))
