"""Abilities of Alby's SDK that other counterparts do not have."""

import pytest

from caravel.tests.support.waiting import wait_until
from interop.tests.support.clients import CaravelClient, ClientError
from interop.tests.support.counterparts import ALBY_CLIENT, ALBY_WALLET
from lightning.clients import nwc
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.exceptions import WalletRefused
from sandbox.wallets import Renewal

pytestmark = pytest.mark.interop

WITH_CLIENT = pytest.mark.counterparts([ALBY_CLIENT])
WITH_WALLET = pytest.mark.counterparts([ALBY_WALLET])


@WITH_CLIENT
def test_printed_url_can_be_parsed(service, client):
    # The relay is not quoted, and the URL contains the client's public key.
    printed = client.call("printed_url")

    read = parse_nwc_url(printed, private_allowed=True)
    assert read == parse_nwc_url(service.url, private_allowed=True)
    assert CaravelClient(printed).get_balance() == 10**9


@WITH_CLIENT
def test_client_reads_the_budget(service, client):
    assert client.request("get_budget", {}) == {}

    service.wallet.connection.limit(5_000, Renewal.NEVER)

    assert client.request("get_budget", {})["total_budget"] == 5_000


@WITH_CLIENT
def test_client_is_notified_of_a_sent_payment(bob, client):
    client.listen()
    invoice = bob.issue(5_000)

    client.request("pay_invoice", {"invoice": invoice.bolt11})

    wait_until(lambda: client.notifications)
    (sent,) = client.notifications
    assert sent["notification_type"] == "payment_sent"
    assert sent["notification"]["payment_hash"] == invoice.payment_hash
    assert sent["notification"]["preimage"] == invoice.preimage


@WITH_CLIENT
def test_client_tells_a_wallets_error_by_its_type(bob, client):
    with pytest.raises(ClientError, match="Nip47WalletError"):
        client.request("pay_invoice", {"invoice": bob.issue(10**9 + 1_000).bolt11})


@WITH_WALLET
def test_wallet_does_not_implement_get_budget(client):
    with pytest.raises(WalletRefused) as caught:
        client.wallet.get_budget()

    assert caught.value.nwc_code == "NOT_IMPLEMENTED"


@WITH_WALLET
def test_responses_name_client_and_request(relay, client):
    client.get_balance()

    (reply,) = relay.events(nwc.RESPONSE)
    assert [name for name, *_ in reply.tags] == ["e", "p"]
