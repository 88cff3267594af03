"""Relays that require authentication (NIP-42), in each way that relays differ."""

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import Event, sign_event
from caravel.nostr.relays import authentication
from caravel.nostr.relays.authentication import AuthenticationFailed
from caravel.nostr.relays.pool import EventRefused
from caravel.nostr.relays.subscriptions import SubscriptionRefused
from caravel.tests.support.hostile_relay import scripted_relay
from caravel.tests.support.relay_requests import (
    CLIENT_KEY,
    PEER_KEY,
    REPLY,
    REQUEST,
    endpoint_of,
    new_request,
    reply_to,
    send_request,
    start_replying,
)
from caravel.tests.support.waiting import LIMIT, wait_until

NOTES = [{"kinds": [1]}]
#: NIP-42 allows a challenge at any time, and an OK "should" follow an AUTH. LocalRelay
#: of nostr-sdk and @nostr-relay/core let everybody write, and refuse REQ alone (READ).
WAYS = [
    {"requires_auth": True},
    {"requires_auth_to_read": True},
    {"requires_auth": True, "late_challenge": True},
    {"requires_auth_to_read": True, "late_challenge": True},
    {"requires_auth": True, "acknowledges_auth": False},
]


@pytest.fixture(params=WAYS, ids=lambda way: "-".join(way))
def strict_relay(request, relay, monkeypatch):
    if "acknowledges_auth" in request.param:
        monkeypatch.setattr(authentication, "_TIMEOUT", 0.5)
    relay.change_settings(**request.param)
    return relay


@pytest.fixture
def note():
    return sign_event(PEER_KEY, kind=1, content="hi")


def test_request_authenticates_and_gets_its_reply(strict_relay, pool, peer_pool):
    """The reply follows at once, and relays do not store it."""
    start_replying(peer_pool, strict_relay, secret_key=PEER_KEY)

    assert send_request(pool, [strict_relay], secret_key=CLIENT_KEY).content == "re ?"

    assert pubkey_of(CLIENT_KEY) in strict_relay.authenticated
    assert len(strict_relay.stored(REQUEST)) == 1


def test_fetch_authenticates_and_is_complete(strict_relay, pool, note):
    endpoints = [endpoint_of(strict_relay)]
    pool.publish(endpoints, note, timeout=LIMIT, secret_key=PEER_KEY)

    result = pool.fetch(endpoints, NOTES, timeout=LIMIT, secret_key=CLIENT_KEY)

    assert (result.events, result.complete) == ((note,), True)


def test_listener_authenticates_on_each_connection(strict_relay, pool, peer_pool, note):
    endpoints = [endpoint_of(strict_relay)]
    received: list[Event] = []
    pool.listen(endpoints, NOTES, received.append, secret_key=CLIENT_KEY)
    wait_until(lambda: strict_relay.subscriptions == 1)
    strict_relay.drop_connections()
    wait_until(lambda: strict_relay.accepted == 2 and strict_relay.subscriptions == 1)

    peer_pool.publish(endpoints, note, timeout=LIMIT, secret_key=PEER_KEY)

    wait_until(lambda: received == [note])


def test_publish_authenticates(strict_relay, pool, note):
    endpoint = endpoint_of(strict_relay)

    hosts = pool.publish([endpoint], note, timeout=LIMIT, secret_key=PEER_KEY)

    assert hosts == [endpoint.host]


def test_without_key_the_relays_refusal_is_raised_and_nothing_is_sent(relay, pool):
    relay.change_settings(requires_auth=True)

    with pytest.raises(SubscriptionRefused, match="auth-required: authenticate first"):
        pool.fetch([endpoint_of(relay)], NOTES, timeout=LIMIT)
    with pytest.raises(SubscriptionRefused):
        send_request(pool, [relay])

    assert relay.count(REQUEST) == 0


def test_each_of_several_keys_on_one_connection_gets_its_own_replies(
    relay, pool, peer_pool
):
    """The relay serves an event only to its author and to keys in its `p` tags."""
    relay.change_settings(requires_auth=True, serves_own_events=True)
    start_replying(
        peer_pool,
        relay,
        lambda event: reply_to(event, recipients=(event.pubkey,)),
        secret_key=PEER_KEY,
    )
    keys = [generate_secret_key() for _ in range(3)]

    for key in [*keys, *keys]:
        event = new_request(key, secret_key=key)
        reply = send_request(pool, [relay], event=event, secret_key=key)
        assert reply.content == f"re {key}"

    assert relay.authenticated >= {pubkey_of(key) for key in keys}
    assert relay.accepted == 2  # the peer's and ours


def test_key_is_proven_again_to_relay_that_keeps_only_the_latest(pool):
    """NIP-42 says that all keys count, but khatru long kept one per connection."""
    authenticated = []

    def script(client):
        client.send("AUTH", "challenge")
        while True:
            verb, event, *_ = client.receive()
            if verb == "AUTH":
                authenticated.append(event["pubkey"])
                client.send("OK", event["id"], True, "")
            elif verb == "EVENT":
                is_author = authenticated[-1:] == [event["pubkey"]]
                reason = "restricted: not yours" if authenticated else "auth-required: "
                client.send("OK", event["id"], is_author, reason)

    with scripted_relay(script) as endpoint:
        for key in (CLIENT_KEY, PEER_KEY, CLIENT_KEY):
            event = sign_event(key, kind=1, content="")
            accepted = pool.publish([endpoint], event, timeout=LIMIT, secret_key=key)
            assert accepted == [endpoint.host]

    assert authenticated == [pubkey_of(k) for k in (CLIENT_KEY, PEER_KEY, CLIENT_KEY)]


def test_fetch_authenticates_to_relay_that_refuses_by_notice(pool, note, monkeypatch):
    """nostr-relay of PyPI: it does not answer an AUTH that it accepts either."""
    monkeypatch.setattr(authentication, "_TIMEOUT", 0.2)

    def script(client):
        client.send("AUTH", "challenge")
        client.receive_until("REQ")
        client.send("NOTICE", "restricted: permission denied")
        client.receive_until("AUTH")
        sub = client.receive_until("REQ")[1]
        client.send("EVENT", sub, note.to_dict())
        client.send("EOSE", sub)
        client.receive_until("CLOSE")

    with scripted_relay(script) as endpoint:
        result = pool.fetch([endpoint], NOTES, timeout=LIMIT, secret_key=CLIENT_KEY)

    assert (result.events, result.complete) == ((note,), True)


# --- waits have an end, and a code


def refusing_relay(on_auth=lambda client, event: None, *, challenge=""):
    """Run a relay that requires authentication for ever."""

    def script(client):
        if challenge:
            client.send("AUTH", challenge)
        while True:
            verb, argument, *_ = client.receive()
            if verb == "REQ":
                client.send("CLOSED", argument, "auth-required: who?")
            elif verb == "EVENT":
                client.send("OK", argument["id"], False, "auth-required: who?")
            elif verb == "AUTH":
                on_auth(client, argument)

    return scripted_relay(script)


def refuse_key(client, event):
    client.send("OK", event["id"], False, "restricted: unknown \x1b[31mkey")


@pytest.mark.parametrize(
    ("relay", "error", "code", "message"),
    [
        (
            refusing_relay(),
            AuthenticationFailed,
            "relay-authentication-failed",
            "sent no challenge",
        ),
        (
            refusing_relay(challenge="x" * 2_000),
            AuthenticationFailed,
            "relay-authentication-failed",
            "sent no challenge",
        ),
        (
            refusing_relay(refuse_key, challenge="who?"),
            AuthenticationFailed,
            "relay-authentication-failed",
            "refused the key: restricted: unknown",
        ),
        (
            refusing_relay(challenge="who?"),
            SubscriptionRefused,
            "relay-subscription-refused",
            "auth-required: who?",
        ),
    ],
    ids=["no challenge", "endless challenge", "key refused", "no OK"],
)
def test_authentication_that_fails_ends_with_a_code(
    relay, error, code, message, pool, note, monkeypatch
):
    monkeypatch.setattr(authentication, "_TIMEOUT", 0.2)
    options = {"timeout": 3 * LIMIT, "secret_key": CLIENT_KEY}
    with relay as endpoint:
        with pytest.raises(error, match=message) as fetching:
            pool.fetch([endpoint], NOTES, **options)
        with pytest.raises(error) as requesting:
            pool.request(
                [endpoint],
                new_request(),
                author=pubkey_of(PEER_KEY),
                kind=REPLY,
                **options,
            )
        assert pool.publish([endpoint], note, **options) == []

    assert fetching.value.code == requesting.value.code == code
    assert fetching.value.message.isprintable()


def test_event_that_needs_another_key_ends_with_the_reason(relay, pool, monkeypatch):
    """The relay lets everybody read, but accepts no event."""
    monkeypatch.setattr(authentication, "_TIMEOUT", 0.2)
    relay.fault("reject", reason="auth-required: members only")

    with pytest.raises(EventRefused, match="sent no challenge") as refused:
        send_request(pool, [relay], timeout=3 * LIMIT, secret_key=CLIENT_KEY)

    assert refused.value.code == "nostr-event-refused"
