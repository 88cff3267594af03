"""The encryption of requests: by the info event, or learnt from a wallet's answers."""

from dataclasses import replace
from unittest.mock import patch

import pytest

from lightning.clients import nwc, nwc_batches, nwc_info
from lightning.clients.nwc_replies import Status
from lightning.exceptions import RequestNotSent, WalletRefused
from lightning.tests.support.nwc import client, issue, pay
from sandbox.common.nostr import Scheme
from sandbox.wallets.behaviour import ReplyBehaviour


@pytest.fixture(params=list(Scheme))
def only(request):
    """The only encryption of a wallet."""
    return request.param


@pytest.fixture
def unannounced(relay, wallets, only):
    """A wallet with one encryption whose info event has vanished from its relay."""
    wallet = wallets.create("unannounced", balance_msat=10**9)
    wallet.protocol = replace(wallet.protocol, encryption=(only,), announces=False)
    relay.fault("drop", on="req", kinds={nwc_info.INFO})
    nwc_info.clear_scheme_cache()
    return wallet


def schemes(relay, wallet):
    """Return the encryption of each request to a wallet, oldest first."""
    return [
        Scheme((event.values("encryption") or [Scheme.NIP04])[0])
        for event in relay.events(nwc.REQUEST, author=wallet.connection.pubkey)
    ]


def test_wallet_without_an_info_event_is_asked_in_its_encryption(
    relay, unannounced, only
):
    assert client(unannounced).get_balance() == 10**9
    assert client(unannounced).get_balance() == 10**9

    # The second call knows what the first has learnt.
    guesses = [] if only is Scheme.NIP04 else [Scheme.NIP04]
    assert schemes(relay, unannounced) == [*guesses, only, only]


def test_look_ups_are_repeated_in_the_encryption_of_the_wallet(unannounced):
    hashes = [unannounced.issue(1_000).payment_hash for _ in range(3)]

    answers = client(unannounced).lookup_invoices(hashes)

    assert {answers[each].status for each in hashes} == {Status.UNSETTLED}


def test_wallet_without_an_info_event_pays_at_the_first_attempt(
    relay, wallets, own_wallet, unannounced, only
):
    bolt11, payment_hash = issue(own_wallet)

    assert pay(unannounced, bolt11, payment_hash)

    assert wallets.ledger.debits("unannounced") == [5_000_000]
    assert len(unannounced.requests("pay_invoice")) == 1
    assert schemes(relay, unannounced)[-1] is only
    assert not [r for r in unannounced.unreadable if r.values("encryption")]


def test_second_payment_asks_nothing_first(relay, own_wallet, unannounced):
    pay(unannounced, *issue(own_wallet))
    before = len(schemes(relay, unannounced))

    pay(unannounced, *issue(own_wallet))

    assert len(schemes(relay, unannounced)) == before + 1


def test_wallet_that_does_not_answer_first_is_paid_by_in_nip_04(
    monkeypatch, relay, own_wallet, alice
):
    monkeypatch.setattr(nwc_batches, "_PROBE_TIMEOUT", 0.5)
    relay.fault("drop", on="req", kinds={nwc_info.INFO})
    nwc_info.clear_scheme_cache()
    alice.reply_behaviour = ReplyBehaviour(after=None)

    assert pay(alice, *issue(own_wallet))

    assert schemes(relay, alice)[-1] is Scheme.NIP04


def test_payment_is_not_prepared_if_the_relay_is_lost_meanwhile(alice, relay):
    relay.fault("drop", on="req", kinds={nwc_info.INFO})
    nwc_info.clear_scheme_cache()
    lost = RequestNotSent("The relay does not answer.")

    with (
        patch.object(nwc_batches, "call_each", return_value=[lost]),
        pytest.raises(RequestNotSent),
    ):
        pay(alice, "lnbcrt1", "ab" * 32)


@pytest.mark.parametrize(
    ("first", "then"),
    [(Scheme.NIP44, Scheme.NIP04), (Scheme.NIP04, Scheme.NIP44)],
)
def test_payment_in_the_wrong_encryption_is_sent_once_and_the_next_is_right(
    relay, wallets, own_wallet, alice, first, then
):
    """The wallet has changed since its info event was fetched."""
    alice.protocol = replace(alice.protocol, encryption=(first,))
    client(alice).get_balance()
    alice.protocol = replace(alice.protocol, encryption=(then,))
    bolt11, payment_hash = issue(own_wallet)

    with pytest.raises(WalletRefused) as caught:
        pay(alice, bolt11, payment_hash)
    assert caught.value.nwc_code == "UNSUPPORTED_ENCRYPTION"
    assert schemes(relay, alice) == [first, first]
    assert wallets.ledger.debits("alice") == []

    assert pay(alice, bolt11, payment_hash)
    assert schemes(relay, alice) == [first, first, then]


def test_published_methods_are_those_of_the_info_event(relay, alice):
    assert {"pay_invoice", "get_info"} <= client(alice).published_methods()

    relay.fault("drop", on="req", kinds={nwc_info.INFO})
    nwc_info.clear_scheme_cache()
    assert client(alice).published_methods() == frozenset()
