"""Connections that need not be refused pay, over a real relay."""

from urllib.parse import quote

import pytest

from lightning.clients import nwc_info
from lightning.models import NwcPayment
from lightning.tests.support.connecting import connect_and_pay
from sandbox.common.nostr import Scheme
from sandbox.wallets.behaviour import Protocol

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]


def test_connection_that_may_not_get_info_is_connected_and_pays(alice):
    alice.connection.deny(["get_info"])

    assert connect_and_pay(alice.url).state == NwcPayment.State.PAID


def test_wallet_that_reads_only_nip44_pays_without_its_info_event(relay, alice):
    alice.protocol = Protocol(encryption=(Scheme.NIP44,), announces=False)
    relay.forget(nwc_info.INFO, alice.pubkey)

    assert connect_and_pay(alice.url).state == NwcPayment.State.PAID


@pytest.mark.parametrize(
    "surplus",
    [
        "&relay=not a relay",
        "&relay=",
        "".join(f"&relay=wss://relay{number}.example" for number in range(30)),
    ],
    ids=["bad", "empty", "many"],
)
def test_surplus_relays_do_not_keep_a_wallet_from_paying(alice, surplus):
    assert connect_and_pay(f"{alice.url}{surplus}").state == NwcPayment.State.PAID


def test_relays_of_one_parameter_are_separated_by_commas(relay, alice):
    relays = quote(f"{relay.url},wss://other.example", safe="")
    url = alice.url.replace(quote(relay.url, safe=""), relays)
    assert relays in url

    assert connect_and_pay(url).state == NwcPayment.State.PAID
