"""Notifications of the sandbox's wallets, over a real relay."""

import json
import threading
import time
from dataclasses import replace

import pytest

from caravel.nostr import generate_secret_key
from caravel.nostr.events import sign_event
from caravel.nostr.relays.dial import Endpoint
from caravel.nostr.relays.pool import get_pool
from caravel.tests.support.waiting import wait_until
from lightning.clients import nwc_notifications
from lightning.clients.nwc import Wallet
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.tests.support.nwc import client, issue, pay, reconnect_wallets
from sandbox.common.nostr import Scheme, encrypt


def listen(relay, wallet, callback):
    """Start listening to a wallet; returns once the relay has the subscription."""
    before = relay.subscriptions
    wallet.on_payment_received(callback)
    wait_until(lambda: relay.subscriptions > before)


def pay_new(own_wallet, alice):
    """Issue and pay an invoice; returns its payment hash."""
    bolt11, payment_hash = issue(own_wallet)
    pay(alice, bolt11, payment_hash)
    return payment_hash


@pytest.mark.parametrize("scheme", list(Scheme))
def test_payment_received_is_passed_on(relay, own_wallet, alice, scheme):
    own_wallet.protocol = replace(own_wallet.protocol, encryption=(scheme,))
    received: list[list[str]] = []
    listen(relay, client(own_wallet), received.append)

    payment_hash = pay_new(own_wallet, alice)

    wait_until(lambda: received == [[payment_hash]])


def test_repeated_notification_is_passed_on_once(relay, own_wallet, alice):
    """The wallet sends both encryptions, and the relay repeats them on reconnect."""
    assert len(own_wallet.protocol.encryption) == 2
    received: list[list[str]] = []
    listen(relay, client(own_wallet), received.append)
    first = pay_new(own_wallet, alice)
    wait_until(lambda: received == [[first]])

    reconnect_wallets(relay)
    second = pay_new(own_wallet, alice)

    wait_until(lambda: len(received) > 1)
    assert received == [[first], [second]]


def test_many_notifications_are_passed_on_together(relay, own_wallet, alice):
    received: list[list[str]] = []
    listen(relay, client(own_wallet), received.append)
    bolt11s = [issue(own_wallet)[0] for _ in range(20)]

    hashes = [alice.pay(bolt11).payment_hash for bolt11 in bolt11s]

    wait_until(lambda: sum(map(len, received)) == 20)
    assert [each for batch in received for each in batch] == hashes
    assert len(received) < 10


def test_of_all_processes_one_passes_a_notification_on(relay, own_wallet, alice):
    own_wallet.protocol = replace(own_wallet.protocol, encryption=(Scheme.NIP44,))
    received: list[list[str]] = []
    for _ in range(3):
        listen(relay, client(own_wallet), received.append)

    hashes = [pay_new(own_wallet, alice) for _ in range(3)]

    wait_until(lambda: sum(map(len, received)) >= 3)
    assert sorted(each for batch in received for each in batch) == sorted(hashes)


def test_listening_goes_on_after_the_callback_fails(relay, own_wallet, alice, caplog):
    received: list[list[str]] = []

    def fail_once(payment_hashes):
        received.append(payment_hashes)
        if len(received) == 1:
            raise RuntimeError("the broker is on fire")

    listen(relay, client(own_wallet), fail_once)
    pay_new(own_wallet, alice)
    wait_until(lambda: received)

    second = pay_new(own_wallet, alice)

    wait_until(lambda: received[1:] == [[second]])
    assert "hints_lost" in caplog.text


def test_notifications_of_other_connections_are_ignored(relay, own_wallet, alice):
    other = Wallet(
        replace(
            parse_nwc_url(own_wallet.url, private_allowed=True),
            secret=generate_secret_key(),
        ),
        private_allowed=True,
    )
    received: list[list[str]] = []
    notices: list[list[str]] = []
    listen(relay, other, received.append)
    listen(relay, client(own_wallet), notices.append)

    payment_hash = pay_new(own_wallet, alice)

    wait_until(lambda: notices == [[payment_hash]])
    assert received == []


def publish_notification(wallet, relay, content, *, created_at=None):
    """Publish a notification signed and encrypted by the wallet."""
    uri, keys = parse_nwc_url(wallet.url, private_allowed=True), wallet.keys
    text = encrypt(Scheme.NIP44, keys.wallet, uri.client_pubkey, content)
    tags = [("p", uri.client_pubkey)]
    event = sign_event(
        keys.wallet, kind=23197, content=text, tags=tags, created_at=created_at
    )
    get_pool().publish([Endpoint(relay.url, private_allowed=True)], event, timeout=60)


def test_notification_of_a_wallet_whose_clock_is_behind_is_passed_on(relay, own_wallet):
    received: list[list[str]] = []
    listen(relay, client(own_wallet), received.append)
    notice = {
        "notification_type": "payment_received",
        "notification": {"payment_hash": "ab" * 32},
    }
    two_minutes_ago = int(time.time()) - 119

    publish_notification(
        own_wallet, relay, json.dumps(notice), created_at=two_minutes_ago
    )

    wait_until(lambda: received == [["ab" * 32]])


def test_listening_goes_on_after_a_deeply_nested_notification(relay, own_wallet, alice):
    received: list[list[str]] = []
    listen(relay, client(own_wallet, is_ours=True), received.append)
    publish_notification(own_wallet, relay, "[" * 60_000)

    payment_hash = pay_new(own_wallet, alice)

    wait_until(lambda: received == [[payment_hash]])


def test_notification_queue_is_bounded(relay, own_wallet, monkeypatch):
    monkeypatch.setattr(nwc_notifications, "_MAX_QUEUED", 3)
    received: list[str] = []
    taken, go_on = threading.Event(), threading.Event()

    def block_after_first(batch):
        received.extend(batch)
        taken.set()
        assert go_on.wait(60)

    listen(relay, client(own_wallet), block_after_first)
    payment_hashes = [f"{number:064x}" for number in range(20)]
    for payment_hash in payment_hashes:
        notice = {
            "notification_type": "payment_received",
            "notification": {"payment_hash": payment_hash},
        }
        publish_notification(own_wallet, relay, json.dumps(notice))
        assert taken.wait(60)
    go_on.set()

    wait_until(lambda: len(received) >= 4)
    assert received[:4] == payment_hashes[:4]
    assert len(received) < 10  # the last may have arrived when there was room again
