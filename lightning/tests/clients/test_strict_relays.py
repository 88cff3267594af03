"""Wallets over relays that require authentication, serve some filters, or refuse."""

import pytest

from caravel.nostr import pubkey_of
from caravel.nostr.relays.pool import close_pool
from caravel.tests.support.waiting import wait_until
from lightning.clients import nwc_info
from lightning.clients.nwc import REQUEST, RESPONSE
from lightning.clients.nwc_replies import Status
from lightning.exceptions import (
    NoWalletReply,
    RelayRefused,
    RequestNotSent,
    WalletRefused,
)
from lightning.tests.support.nwc import client, issue, pay, reconnect_wallets

STRICT = [
    {"requires_auth": True},
    {"requires_auth_to_read": True, "late_challenge": True},
    {"ignores_broad_filters": True},
    {"refuses_broad_filters": True},
]


@pytest.fixture(params=STRICT, ids=lambda changes: "-".join(changes))
def strict_relay(request, relay, wallets, own_wallet, alice):
    relay.change_settings(**request.param)
    reconnect_wallets(relay)
    nwc_info.clear_scheme_cache()
    return relay


def test_payment_is_made_found_and_notified(strict_relay, own_wallet, alice):
    received: list[list[str]] = []
    before = strict_relay.subscriptions
    client(own_wallet).on_payment_received(received.append)
    wait_until(lambda: strict_relay.subscriptions > before)

    bolt11, payment_hash = issue(own_wallet)
    assert pay(alice, bolt11, payment_hash)

    lookup = client(own_wallet).lookup_invoice(payment_hash)
    assert lookup.status is Status.SETTLED
    wait_until(lambda: received == [[payment_hash]])


def test_info_event_is_found(strict_relay, alice):
    """Found: NIP-44 is used only if the info event offers it."""
    client(alice).get_info()

    (request,) = strict_relay.events(REQUEST)
    assert list(request.values("encryption")) == ["nip44_v2"]


def test_each_wallet_authenticates_with_its_own_key(relay, own_wallet, alice):
    relay.change_settings(requires_auth=True)
    reconnect_wallets(relay)

    for wallet in (own_wallet, alice):
        client(wallet).get_info()

    keys = {client(wallet).uri.client_pubkey for wallet in (own_wallet, alice)}
    assert keys <= relay.authenticated
    assert pubkey_of(client(alice).uri.secret) in keys


def test_payment_that_the_relay_refuses_ends_early_and_stays_unknown(
    relay, settings, own_wallet, alice
):
    settings.NWC_TIMEOUT = 3_600
    bolt11, payment_hash = issue(own_wallet)
    relay.fault("reject", kinds={REQUEST}, reason="rate-limited: slow down")

    with pytest.raises(RelayRefused, match="rate-limited: slow down") as refused:
        pay(alice, bolt11, payment_hash)

    assert isinstance(refused.value, NoWalletReply)
    assert not isinstance(refused.value, WalletRefused | RequestNotSent)
    assert refused.value.code == "nwc-relay-refused"


def test_payment_is_not_sent_if_its_reply_could_not_be_heard(relay, own_wallet, alice):
    bolt11, payment_hash = issue(own_wallet)
    close_pool()
    relay.fault("closed", on="req", kinds={RESPONSE}, reason="rate-limited: slow down")

    with pytest.raises(RequestNotSent, match="rate-limited: slow down"):
        pay(alice, bolt11, payment_hash)

    assert "pay_invoice" not in [request.method for request in alice.requests()]
