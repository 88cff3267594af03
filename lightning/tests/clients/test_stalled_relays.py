"""Our own wallet does not wait for relays of strangers, and time-outs have a code."""

from contextlib import contextmanager
from threading import Event

import pytest

from caravel.nostr.events import sign_event
from caravel.nostr.relays import pool as pool_module
from caravel.nostr.relays.pool import get_pool
from caravel.tests.support.waiting import LIMIT
from lightning.clients import nwc_info
from lightning.exceptions import NoWalletReply, RequestNotSent
from lightning.services import own_wallets
from lightning.tests.support.nwc import client, issue, pay
from tenants.services import nostr_identity
from tenants.services.nostr_directory import untrusted_endpoints


@contextmanager
def stalled():
    """Let the loop of the relays of strangers do nothing."""
    begun, released = Event(), Event()

    def block():
        begun.set()
        released.wait(LIMIT)

    get_pool(is_ours=False)._loop.call_soon_threadsafe(block)
    assert begun.wait(LIMIT)
    try:
        yield
    finally:
        released.set()


@pytest.fixture
def short_timeouts(monkeypatch):
    monkeypatch.setattr(pool_module, "_CALL_GRACE", 0.1)
    monkeypatch.setattr(nwc_info, "_TIMEOUT", 0.1)
    monkeypatch.setattr(nostr_identity, "PUBLISH_TIMEOUT", 0.1)


def test_our_wallet_answers_while_the_relays_of_strangers_are_stalled(own_wallet):
    with stalled():
        wallet = own_wallets.wallet_of(own_wallet.pubkey)

        assert "make_invoice" in wallet.get_info().methods


def test_payment_over_stalled_relays_has_an_unknown_outcome(
    own_wallet, alice, short_timeouts, settings
):
    """It may be sent before the loop learns that nobody waits."""
    bolt11, payment_hash = issue(own_wallet)
    client(alice).get_info()
    settings.NWC_TIMEOUT = 0.1

    # Exactly: its subclass says that a relay has answered.
    with stalled(), pytest.raises(NoWalletReply, match="does not answer"):
        pay(alice, bolt11, payment_hash)


def test_lookup_over_stalled_relays_was_not_sent(alice, short_timeouts):
    with stalled(), pytest.raises(RequestNotSent):
        client(alice).get_info()


def test_event_is_accepted_by_no_relay_while_all_are_stalled(
    alice, relay, short_timeouts
):
    event = sign_event("1" * 64, kind=1, content="")

    with stalled():
        assert nostr_identity.publish(untrusted_endpoints([relay.url]), event) == []
