"""Cases: what a client learns of a wallet, and invoices that the wallet issues."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from interop.tests.support.clients import ClientError
from interop.tests.support.services import SERVED
from lightning.clients.bolt11 import decode

pytestmark = pytest.mark.interop


def test_info_has_name_network_and_methods(client):
    info = client.get_info()

    assert (info.alias, info.network) == ("alice", "regtest")
    assert info.methods >= set(SERVED)


def test_balance_is_exact(serve, connect):
    client = connect(serve(balance_msat=1_234_567_891).url)

    assert client.get_balance() == 1_234_567_891


def test_invoice_has_amount_and_expiry_as_asked(client):
    issued = client.make_invoice(7_000, expiry=900)

    decoded = decode(issued.bolt11)
    assert (decoded.payment_hash, decoded.amount_msat) == (issued.payment_hash, 7_000)
    assert decoded.expires_at - decoded.created_at == timedelta(seconds=900)


def test_invoice_has_description_in_any_script(service, client):
    issued = client.make_invoice(7_000, description='Ÿ ⚡ «Реле» 中继 "1"')

    invoice = service.wallet.ledger.invoice(bolt11=issued.bolt11)
    assert invoice.description == 'Ÿ ⚡ «Реле» 中继 "1"'


def test_large_amount_is_exact(client):
    issued = client.make_invoice(123_456_789_012_000)

    assert decode(issued.bolt11).amount_msat == 123_456_789_012_000


def test_fraction_of_a_satoshi_is_exact(client):
    issued = client.make_invoice(7_001)

    assert decode(issued.bolt11).amount_msat == 7_001


def test_unpaid_invoice_is_not_settled(client):
    issued = client.make_invoice(7_000)

    lookup = client.lookup_invoice(issued.payment_hash)

    assert (lookup.settled, lookup.preimage) == (False, None)


def test_paid_invoice_is_settled(bob, client):
    issued = client.make_invoice(7_000)
    paid = bob.pay(issued.bolt11)

    lookup = client.lookup_invoice(issued.payment_hash)

    assert (lookup.settled, lookup.amount_msat) == (True, 7_000)
    assert lookup.preimage == paid.preimage


def test_expired_invoice_is_not_settled(service, client):
    with time_machine.travel(timezone.now() - timedelta(hours=1)):
        issued = service.wallet.issue(7_000, expiry=60)

    lookup = client.lookup_invoice(issued.payment_hash)

    assert (lookup.settled, lookup.preimage) == (False, None)


def test_unknown_invoice_is_an_error(client):
    with pytest.raises(ClientError) as caught:
        client.lookup_invoice("00" * 32)

    assert caught.value.code == "NOT_FOUND"


def test_simultaneous_requests_get_their_own_answers(bob, client):
    invoices = [client.make_invoice(amount) for amount in (5_000, 6_000, 7_000)]
    paid = bob.pay(invoices[1].bolt11)

    with ThreadPoolExecutor() as threads:
        hashes = [issued.payment_hash for issued in invoices]
        lookups = list(threads.map(client.lookup_invoice, hashes))

    assert [lookup.settled for lookup in lookups] == [False, True, False]
    assert lookups[1].preimage == paid.preimage
