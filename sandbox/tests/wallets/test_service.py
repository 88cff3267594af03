"""The wallet service: requests it runs, answers and notifications."""

import dataclasses
import json
import logging
import threading
import time

import pytest
import time_machine
from websockets.sync.server import serve

from caravel.tests.support.waiting import wait_until
from sandbox.common.nostr import (
    Scheme,
    encrypt,
    generate_secret_key,
    pubkey_of,
    sign_event,
)
from sandbox.common.secrets import tracked
from sandbox.nostr.faults import RelayFault
from sandbox.tests.support.wallet_client import wallet_client
from sandbox.wallets import Renewal, Terms, running_wallets
from sandbox.wallets.behaviour import Protocol, pays_after
from sandbox.wallets.relay_connection import RelayRefused

NOW = 1_800_000_000


@pytest.fixture
def client(alice):
    with wallet_client(alice.url) as client:
        yield client


def received(wallet):
    return [request.id for request in wallet.requests("pay_invoice")]


def payment(client, platform, **options):
    bolt11 = platform.issue(1_000).bolt11
    return client.request("pay_invoice", invoice=bolt11, **options)


def test_expired_request_is_not_run(relay, client, alice, platform):
    relay.change_settings(honours_expiration=False)
    client.send(payment(client, platform, expires_at=int(time.time()) - 1))

    assert client.earlier() == []

    assert received(alice) == []
    assert alice.balance_msat == 100_000


def test_expired_request_is_run_if_expiration_is_not_heeded(
    relay, client, alice, platform
):
    relay.change_settings(honours_expiration=False)
    alice.protocol = Protocol(heeds_expiration=False)

    answer = client.answer(payment(client, platform, expires_at=1))

    assert answer["error"] is None
    assert alice.ledger.debits("alice") == [1_000]


def test_request_before_its_expiration_is_run(client, platform):
    request = payment(client, platform, expires_at=int(time.time()) + 60)

    assert client.answer(request)["error"] is None


def test_received_request_has_its_client_and_scheme(client, alice, platform):
    request = payment(client, platform)
    client.answer(request)

    (known,) = alice.requests("pay_invoice")
    assert known.id == request.id
    assert known.client == client.pubkey
    assert known.scheme is Scheme.NIP44


def test_request_delivered_twice_is_run_once(relay, client, alice, platform):
    relay.fault("duplicate", on="delivery", kinds=[23194])
    request = payment(client, platform)

    assert client.answer(request)["error"] is None

    client.earlier()
    assert received(alice) == [request.id]


def unknown_client_url(wallet):
    """Return a URL of the wallet with an unknown client key."""
    address, _, _ = wallet.url.partition("secret=")
    return f"{address}secret={generate_secret_key()}"


def test_unknown_client_is_unauthorized(alice, platform):
    with wallet_client(unknown_client_url(alice)) as client:
        bolt11 = platform.issue(1_000).bolt11
        assert client.error("pay_invoice", invoice=bolt11) == "UNAUTHORIZED"

    assert alice.balance_msat == 100_000


def test_unknown_client_gets_no_answer_if_so_configured(client, alice, platform):
    alice.protocol = Protocol(answers_unknown_clients=False)
    with wallet_client(unknown_client_url(alice)) as other:
        request = payment(other, platform)
        other.send(request)
        wait_until(lambda: request.id in received(alice))
        alice.protocol = Protocol()
        assert other.error("get_balance") == "UNAUTHORIZED"
        assert other.earlier() == []


def test_deleted_connection_is_unauthorized(client, alice, platform):
    phone = alice.connect("phone")
    alice.connection.delete()

    assert client.answer(payment(client, platform))["error"]["code"] == "UNAUTHORIZED"
    with wallet_client(phone.url) as other:
        assert other.call("get_balance")
    assert alice.connections == [phone]


def test_expired_connection_answers_expired(client, alice, platform):
    with time_machine.travel(NOW, tick=False) as clock:
        alice.connection.terms = Terms(expires_at=NOW + 60)
        assert client.call("get_balance")

        clock.shift(60)
        assert client.error("get_balance") == "EXPIRED"

    alice.connection.expire()
    assert client.answer(payment(client, platform))["error"]["code"] == "EXPIRED"
    assert alice.balance_msat == 100_000


def test_read_only_connection_cannot_pay(relay, client, alice, platform):
    alice.connection.terms = Terms(read_only=True)

    assert client.answer(payment(client, platform))["error"]["code"] == "RESTRICTED"

    assert client.call("get_balance")
    (info,) = relay.stored(13194, alice.pubkey)
    assert "pay_invoice" not in info.content


def test_budget_is_renewed_with_its_period(client, alice, platform):
    with time_machine.travel("2027-01-31T23:00:00Z", tick=False) as clock:
        alice.connection.limit(1_000, Renewal.MONTHLY)
        assert client.answer(payment(client, platform))["error"] is None
        refused = client.answer(payment(client, platform))["error"]["code"]
        assert refused == "QUOTA_EXCEEDED"

        clock.shift(3_600)
        assert client.answer(payment(client, platform))["error"] is None
        assert client.call("get_budget")["used_budget"] == 1_000


@pytest.mark.parametrize(
    "text", ["no JSON", "[]", "{}", '{"method": 7}', '{"method": "x", "params": []}']
)
def test_malformed_request_answers_bad_request(client, alice, text):
    body = client.answer(client.wrap(text))

    assert body["error"]["code"] == "BAD_REQUEST"
    assert len(alice.unreadable) == 1
    assert alice.requests() == []


def raw(client, content, *tags):
    tags = (("p", client.wallet), *tags)
    return sign_event(client.secret, kind=23194, content=content, tags=tags)


def test_undecryptable_request_answers_bad_request(client, alice):
    other = pubkey_of(generate_secret_key())
    content = encrypt(Scheme.NIP44, client.secret, other, "{}")

    body = client.answer(raw(client, content, ("encryption", "nip44_v2")))

    assert body["error"]["code"] == "BAD_REQUEST"
    assert [event.content for event in alice.unreadable] == [content]


def test_unknown_encryption_answers_unsupported_encryption(client):
    body = client.answer(raw(client, "hello", ("encryption", "nip99")))

    assert body["error"]["code"] == "UNSUPPORTED_ENCRYPTION"


def test_request_without_encryption_tag_is_nip04(client, alice):
    text = json.dumps({"method": "get_balance", "params": {}})
    content = encrypt(Scheme.NIP04, client.secret, alice.pubkey, text)
    client.scheme = Scheme.NIP04

    assert client.answer(raw(client, content))["result"] == {"balance": 100_000}


@pytest.mark.parametrize("kind", [23196, 23197])
def test_payer_and_payee_are_notified_of_a_payment(alice, platform, client, kind):
    invoice = platform.issue(1_000)
    with wallet_client(platform.url) as platform_client:
        paid = alice.pay(invoice.bolt11)
        received, sent = (
            platform_client.next_notification(kind),
            client.next_notification(kind),
        )

    assert received["notification_type"] == "payment_received"
    assert sent["notification_type"] == "payment_sent"
    assert received["notification"]["type"] == "incoming"
    assert sent["notification"]["type"] == "outgoing"
    for payment_notification in (received["notification"], sent["notification"]):
        assert payment_notification["payment_hash"] == invoice.payment_hash
        assert payment_notification["preimage"] == invoice.preimage
        assert payment_notification["settled_at"] == paid.settled_at


def test_no_notifications_are_sent_if_disabled(relay, alice, platform, client):
    for wallet in (alice, platform):
        wallet.protocol = Protocol(notifies=False)

    client.call("pay_invoice", invoice=platform.issue(1_000).bolt11)

    client.earlier()
    assert relay.count(23196) == relay.count(23197) == 0


def test_new_wallets_use_the_protocol_of_all_wallets(relay):
    quiet = Protocol(encryption=(Scheme.NIP04,), notifies=False)
    with running_wallets(relay.url, protocol=quiet) as wallets:
        bob = wallets.create("bob")

    (info,) = relay.stored(13194, bob.pubkey)
    assert info.values("encryption") == ["nip04"]
    assert info.values("notifications") == []


def test_offline_wallet_is_not_subscribed(relay, alice):
    alice.go_offline()
    wait_until(lambda: relay.subscriptions == 0)

    alice.go_online()
    wait_until(lambda: relay.subscriptions == 1)


def test_request_that_still_reaches_an_offline_wallet_is_not_run(
    client, alice, platform
):
    alice.go_offline()

    text = json.dumps({"method": "get_balance", "params": {}})
    content = encrypt(Scheme.NIP04, client.secret, alice.pubkey, text)
    client.send(raw(client, content, ("p", platform.pubkey)))
    wait_until(lambda: len(platform.unreadable) == 1)

    assert alice.requests() == []


def test_offline_wallet_gets_requests_once_it_is_online(client, alice, platform):
    alice.go_offline()

    client.send(payment(client, platform))
    with wallet_client(platform.url) as platform_client:
        assert platform_client.call("get_balance")

    assert alice.requests() == []
    alice.go_online()
    wait_until(lambda: len(received(alice)) == 1)


def test_wallet_back_online_runs_stored_requests_once(client, alice, platform):
    alice.go_offline()
    requests = [payment(client, platform) for _ in range(2)]
    for request in requests:
        client.send(request)
    assert alice.balance_msat == 100_000

    alice.go_online()
    alice.go_offline()
    alice.go_online()

    assert sorted(received(alice)) == sorted(request.id for request in requests)
    assert alice.balance_msat == 98_000
    assert client.read(client.next_reply(requests[0]))["error"] is None


@pytest.mark.parametrize("heeds_expiration", [True, False])
def test_wallet_back_online_runs_expired_requests_if_not_heeded(
    relay, client, alice, platform, heeds_expiration
):
    relay.change_settings(honours_expiration=False)
    with time_machine.travel(NOW, tick=False) as clock:
        alice.go_offline()
        client.send(payment(client, platform, expires_at=NOW + 60))
        clock.shift(600)

        alice.go_online(heeds_expiration=heeds_expiration)

        assert alice.balance_msat == (100_000 if heeds_expiration else 99_000)


def test_scheduled_payment_of_an_offline_wallet_is_made_but_not_answered(
    client, alice, platform, wallets
):
    with time_machine.travel(NOW, tick=False) as clock:
        alice.behaviour = pays_after(30)
        request = payment(client, platform)
        client.send(request)
        wait_until(lambda: received(alice) == [request.id])
        alice.go_offline()

        clock.shift(30)
        wallets.schedule.run_due()
        assert alice.balance_msat == 99_000

        alice.go_online()
        assert client.earlier() == []


def test_wallets_reconnect_after_dropped_connections(relay, client, alice, wallets):
    relay.drop_connections()
    wait_until(lambda: relay.accepted >= 3)

    with wallet_client(alice.url) as again:
        wait_until(lambda: relay.subscriptions == 2)
        assert again.call("get_balance")


def test_event_that_the_relay_has_already_counts_as_published(relay, alice):
    duplicate = RelayFault("reject", on="event", kinds=[13194], reason="duplicate: x")
    fault = relay.add_fault(duplicate)

    alice.protocol = dataclasses.replace(alice.protocol, notifies=False)

    assert relay.hits(fault.id) == 1


def test_wallets_resubscribe_after_a_refused_subscription(relay, alice, platform):
    relay.fault("closed", on="req", times=1)

    with pytest.raises(RelayRefused, match="blocked"):
        alice.go_offline()

    alice.is_listening = True
    wait_until(lambda: relay.subscriptions == 1)
    for wallet in (alice, platform):
        with wallet_client(wallet.url) as client:
            assert client.call("get_info")


def test_create_raises_timeouterror_when_the_relay_does_not_answer(relay):
    with running_wallets(relay.url, timeout=1) as wallets:
        relay.fault("mute", on="event", kinds=[13194])
        with pytest.raises(TimeoutError):
            wallets.create("alice")

        relay.clear_faults()
        wait_until(lambda: len(relay.stored(13194)) == 1)


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "[7]", "[[]]", '["EVENT"]', '["OK", []]', '["EOSE", {}]', "x"],
)
def test_malformed_message_of_a_relay_is_ignored(text):
    def answer(wire):
        wire.send(text)
        for message in wire:
            verb, subject, *_ = json.loads(message)
            event = verb == "EVENT"
            wire.send(
                json.dumps(
                    ["OK", subject["id"], True, ""] if event else ["EOSE", subject]
                )
            )

    with serve(answer, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        with running_wallets(url) as wallets:
            assert wallets.create("alice").connections


def test_wallets_can_stop_while_their_relay_is_lost(relay):
    for _ in range(30):
        with running_wallets(relay.url) as wallets:
            wallets.create("alice")
            relay.drop_connections()

    assert relay.accepted >= 30


def test_info_events_are_published_again_after_a_relay_reset(relay, alice, platform):
    relay.go_offline()
    relay.reset()
    relay.go_online()

    wait_until(lambda: len(relay.stored(13194)) == 2)


def test_closed_subscription_is_opened_again(relay, client, alice):
    relay.end_subscriptions()

    with wallet_client(alice.url) as again:
        wait_until(lambda: relay.subscriptions == 2)
        assert again.call("get_balance")


def test_garbled_and_forged_deliveries_are_ignored(relay, client, alice):
    relay.fault("garble", on="delivery", kinds=[23194], times=1)
    relay.fault("forge", on="delivery", kinds=[23194], times=1)
    for _ in range(2):
        client.send(client.request("get_balance"))

    assert client.call("get_info")

    assert [request.method for request in alice.requests()] == ["get_info"]


def test_wallets_share_one_connection_and_one_subscription(relay, wallets):
    wallets.create_many([f"w{number}" for number in range(20)])

    assert (relay.accepted, relay.subscriptions) == (1, 1)
    assert len(relay.stored(13194)) == 20


def test_wallets_authenticate_to_a_relay_that_requires_it(relay, wallets, alice):
    relay.change_settings(requires_auth=True)
    relay.drop_connections()

    wait_until(lambda: relay.subscriptions == 1)
    wallets.create("bob")

    assert len(relay.authenticated) == 1
    assert len(relay.stored(13194)) == 2


def test_start_raises_timeouterror_without_a_relay(relay):
    relay.go_offline()

    with pytest.raises(TimeoutError), running_wallets(relay.url, timeout=0.2):
        pytest.fail("it must not start")


def test_all_secrets_are_tracked_and_none_is_logged(
    relay, wallets, alice, platform, client, caplog
):
    caplog.set_level(logging.DEBUG)
    invoice = platform.issue(1_000)
    client.call("pay_invoice", invoice=invoice.bolt11)
    relay.drop_connections()
    phone = alice.connect("phone")
    keys = alice.keys

    secret = {keys.wallet, keys.client, keys.node, invoice.preimage, client.secret}
    assert secret | {phone.url.rpartition("=")[2]} <= tracked
    (request,) = alice.requests("pay_invoice")
    output = caplog.text + "".join(
        map(repr, [alice, phone, keys, invoice, request, wallets, alice.protocol])
    )
    assert [secret_text for secret_text in set(tracked) if secret_text in output] == []
    assert dataclasses.asdict(keys)["wallet"] in tracked
