"""Cases: encryption, interruptions, and late requests."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from caravel.tests.support.waiting import result_of, wait_until
from interop.tests.support.clients import ClientError, Issued
from lightning.clients import nwc
from sandbox.common.nostr import Scheme

pytestmark = pytest.mark.interop


def schemes_of(relay, kind):
    """Return the encryptions of the events of a kind."""
    contents = [event.content for event in relay.events(kind)]
    return {Scheme.NIP04 if "?iv=" in text else Scheme.NIP44 for text in contents}


def exercise(client, bob):
    """Make a payment in each direction."""
    received = client.make_invoice(7_000)
    bob.pay(received.bolt11)
    sent = bob.issue(5_000)

    assert client.lookup_invoice(received.payment_hash).settled
    issued = Issued(sent.bolt11, sent.payment_hash)
    assert client.pay_invoice(issued) == sent.preimage
    assert client.get_balance() == 10**9 + 2_000


def test_wallet_with_both_encryptions_gets_and_sends_nip44(relay, bob, client):
    exercise(client, bob)

    assert schemes_of(relay, nwc.REQUEST) == {Scheme.NIP44}
    assert schemes_of(relay, nwc.RESPONSE) == {Scheme.NIP44}


def test_wallet_with_nip44_alone_gets_and_sends_nip44(relay, bob, serve, connect):
    exercise(connect(serve(schemes=[Scheme.NIP44]).url), bob)

    assert schemes_of(relay, nwc.REQUEST) == {Scheme.NIP44}
    assert schemes_of(relay, nwc.RESPONSE) == {Scheme.NIP44}


def test_wallet_with_nip04_alone_gets_and_sends_nip04(relay, bob, serve, connect):
    exercise(connect(serve(schemes=[Scheme.NIP04]).url), bob)

    assert schemes_of(relay, nwc.REQUEST) == {Scheme.NIP04}
    assert schemes_of(relay, nwc.RESPONSE) == {Scheme.NIP04}


def test_url_with_lightning_address_and_plain_relay_is_read(service, relay, connect):
    key, secret = service.wallet.pubkey, service.wallet.keys.client
    # As Alby's SDK prints it: the relay is not quoted.
    url = f"nostr+walletconnect://{key}?relay={relay.url}&secret={secret}"

    client = connect(f"{url}&lud16=alice%40wallets.example")

    assert client.get_balance() == 10**9


def test_unknown_method_is_an_error(client):
    with pytest.raises(ClientError) as caught:
        client.request("sign_message", {"message": "Caravel"})

    assert caught.value.code == "NOT_IMPLEMENTED"


def test_restarted_service_answers(service, client):
    client.get_balance()

    service.stop()
    service.start()

    assert client.get_balance() == 10**9


def balance_of(client):
    """Return the balance, None if the request fails."""
    try:
        return client.get_balance()
    except ClientError:
        return None


def test_broken_connections_are_renewed(relay, service, client):
    client.get_balance()

    relay.drop_connections()
    service.reconnect()

    # A request on the broken connection may be lost.
    wait_until(lambda: balance_of(client) == 10**9)


def test_request_sent_before_the_service_starts_is_answered(relay, service, client):
    client.get_balance()
    before = len(relay.events(nwc.REQUEST))
    service.stop()

    with ThreadPoolExecutor() as threads:
        balance = threads.submit(client.get_balance)
        wait_until(lambda: len(relay.events(nwc.REQUEST)) > before)
        service.start()

        assert result_of(balance, "balance") == 10**9
