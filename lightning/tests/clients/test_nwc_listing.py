"""Invoices found by `list_transactions`, with the sandbox's wallet over a relay."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from lightning.clients import nwc_listing
from lightning.clients.nwc import Wallet
from lightning.clients.nwc_replies import Status
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.exceptions import WalletError, WalletRefused
from sandbox.wallets.behaviour import ListBehaviour


@pytest.fixture
def client(own_wallet):
    return Wallet(parse_nwc_url(own_wallet.url, private_allowed=True))


def listings(own_wallet):
    return [request.params for request in own_wallet.requests("list_transactions")]


def test_unpaid_invoice_is_found_near_the_time_of_its_issue(own_wallet, client):
    issued = own_wallet.issue(1_000)

    found = client.find_incoming(issued.payment_hash, issued_at=timezone.now())

    assert found.status is Status.UNSETTLED
    (params,) = listings(own_wallet)
    assert (params["type"], params["unpaid"]) == ("incoming", True)
    assert params["from"] < issued.created_at < params["until"]


def test_paid_invoice_is_found_among_later_ones(own_wallet, alice, client, monkeypatch):
    monkeypatch.setattr(nwc_listing, "_PAGE", 2)
    issued = own_wallet.issue(1_000)
    alice.pay(issued.bolt11)
    for _ in range(5):
        own_wallet.issue(1_000)

    found = client.find_incoming(issued.payment_hash, issued_at=timezone.now())

    assert (found.status, found.preimage) == (Status.SETTLED, issued.preimage)
    assert [params["offset"] for params in listings(own_wallet)] == [0, 2, 4]


@pytest.mark.parametrize("seconds", [-119, 119])
def test_invoice_is_found_though_the_wallets_clock_differs(own_wallet, client, seconds):
    asked_at = timezone.now()
    with time_machine.travel(asked_at + timedelta(seconds=seconds), tick=False):
        issued = own_wallet.issue(1_000)

    found = client.find_incoming(issued.payment_hash, issued_at=asked_at)

    assert found.status is Status.UNSETTLED


def test_invoice_paid_later_is_found_in_a_wallet_that_lists_by_update(
    own_wallet, alice, client
):
    own_wallet.list_behaviour = ListBehaviour(by_update=True)
    issued_at = timezone.now() - timedelta(hours=1)
    with time_machine.travel(issued_at, tick=False):
        issued = own_wallet.issue(1_000, expiry=7_200)
    alice.pay(issued.bolt11)

    found = client.find_incoming(issued.payment_hash, issued_at=issued_at)

    assert found.status is Status.SETTLED
    narrow, wide = listings(own_wallet)
    assert "until" in narrow
    assert "until" not in wide


def test_payment_of_the_same_hash_is_not_taken_for_the_invoice(alice, own_wallet):
    """Alice paid it, so her wallet lists only her payment."""
    issued = own_wallet.issue(1_000)
    alice.pay(issued.bolt11)
    payer = Wallet(parse_nwc_url(alice.url, private_allowed=True))

    with pytest.raises(WalletError, match="does not list the invoice"):
        payer.find_incoming(issued.payment_hash, issued_at=timezone.now())


def test_search_of_an_endless_list_ends(own_wallet, client, monkeypatch):
    monkeypatch.setattr(nwc_listing, "_PAGE", 1)
    monkeypatch.setattr(nwc_listing, "_MAX_PAGES", 3)
    for _ in range(8):
        own_wallet.issue(1_000)

    with pytest.raises(WalletError, match="does not list the invoice"):
        client.find_incoming("ab" * 32, issued_at=timezone.now())

    assert len(listings(own_wallet)) == 6


@pytest.mark.parametrize("code", ["NOT_IMPLEMENTED", "RESTRICTED"])
def test_wallet_that_cannot_list_refuses(own_wallet, client, code):
    own_wallet.list_behaviour = ListBehaviour(error=code)

    with pytest.raises(WalletRefused) as caught:
        client.find_incoming("ab" * 32, issued_at=timezone.now())

    assert caught.value.nwc_code == code


@pytest.mark.parametrize("result", [{}, {"transactions": None}, {"transactions": {}}])
def test_answer_without_a_list_is_an_error(result):
    with pytest.raises(WalletError, match="no list"):
        nwc_listing.find_incoming(
            lambda method, params: result, "ab" * 32, issued_at=timezone.now()
        )


def test_wallet_that_ignores_the_type_and_returns_odd_entries_is_searched():
    """Entries of another shape, and outgoing ones, are passed over."""
    payment_hash = "ab" * 32
    entries = [
        "text",
        None,
        {"payment_hash": payment_hash},
        {"type": "outgoing", "payment_hash": payment_hash, "state": "failed"},
        {"type": "incoming", "payment_hash": payment_hash, "state": "pending"},
    ]

    found = nwc_listing.find_incoming(
        lambda method, params: {"transactions": entries},
        payment_hash,
        issued_at=timezone.now(),
    )

    assert found.status is Status.UNSETTLED
