"""Refusals of relays end a request at once, with the relay's reason."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from caravel.nostr import pubkey_of
from caravel.nostr.events import sign_event
from caravel.nostr.relays.dial import RelayUnreachable
from caravel.nostr.relays.pool import EventRefused, NoReply
from caravel.nostr.relays.subscriptions import Subscription, SubscriptionRefused
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
from caravel.tests.support.waiting import LIMIT, result_of
from sandbox.nostr import running_relay


@pytest.mark.parametrize(
    "reason", ["rate-limited: slow down", "blocked: you", "pow: 20", "error: disk full"]
)
def test_refused_event_ends_the_request_before_its_timeout(relay, pool, reason):
    relay.fault("reject", reason=reason)

    with ThreadPoolExecutor(1) as executor:
        request = executor.submit(send_request, pool, [relay], timeout=3 * LIMIT)
        with pytest.raises(EventRefused, match=reason):
            result_of(request, "the end of the request")

    assert relay.count(REQUEST) == 1


def test_refused_event_does_not_prove_that_nothing_was_sent():
    assert issubclass(EventRefused, NoReply)
    assert not issubclass(EventRefused, RelayUnreachable)


def test_reply_counts_although_the_relay_refused_the_event(relay, pool, peer_pool):
    """The relay forwards the event, then answers false."""
    start_replying(peer_pool, relay)
    relay.fault("reject", when="after", kinds={REQUEST})

    assert send_request(pool, [relay]).content == "re ?"


def test_refusal_of_one_relay_does_not_end_the_request_at_another(
    relay, pool, peer_pool
):
    start_replying(peer_pool, relay)
    relay.fault("delay", on="event", kinds={REPLY}, seconds=2.5)  # past the grace
    with running_relay() as other:
        other.fault("reject", reason="rate-limited: slow down")

        assert send_request(pool, [other, relay]).content == "re ?"


def test_refused_subscription_ends_the_request_and_nothing_is_sent(relay, pool):
    relay.fault("closed", on="req", reason="rate-limited: slow down")

    with pytest.raises(SubscriptionRefused, match="rate-limited: slow down"):
        send_request(pool, [relay], timeout=3 * LIMIT)

    assert relay.count(REQUEST) == 0


def test_fetch_ends_with_the_reason_of_a_refused_subscription(relay, pool):
    relay.fault("closed", on="req", reason="blocked: you")

    with pytest.raises(SubscriptionRefused, match="blocked: you"):
        pool.fetch([endpoint_of(relay)], [{"kinds": [1]}], timeout=3 * LIMIT)


def test_duplicate_is_accepted_although_the_relay_says_false(relay, pool, peer_pool):
    """NIP-01 says true; nostr-rs-relay and others have said false."""
    relay.fault("reject", kinds={1}, reason="duplicate: have it")
    note = sign_event(PEER_KEY, kind=1, content="hi")
    endpoint = endpoint_of(relay)

    assert pool.publish([endpoint], note, timeout=LIMIT) == [endpoint.host]

    start_replying(peer_pool, relay)
    relay.fault("delay", on="event", kinds={REPLY}, seconds=2.5)
    relay.fault("reject", when="after", kinds={REQUEST}, reason="duplicate: have it")
    assert send_request(pool, [relay]).content == "re ?"


def without_eose(client):
    """Reply to each request without EOSE."""
    while True:
        sub = client.receive_until("REQ")[1]
        message = client.receive()
        if message[0] == "EVENT":
            tags = [("e", message[1]["id"])]
            reply = sign_event(PEER_KEY, kind=REPLY, content="yes", tags=tags)
            client.send("EVENT", sub, reply.to_dict())


def test_request_is_sent_to_relay_that_never_sends_eose(pool, monkeypatch):
    monkeypatch.setattr("caravel.nostr.relays.pending._EOSE_TIMEOUT", 0.2)

    with scripted_relay(without_eose) as endpoint:
        assert request_from(pool, endpoint).content == "yes"


@pytest.mark.parametrize("timeout", [1, LIMIT], ids=["in vain", "in full"])
def test_only_the_first_request_waits_long_for_missing_eose(pool, monkeypatch, timeout):
    """A payment page, which waits for 3 s only, would never get an answer."""
    waits, wait_for_eose = [], Subscription.wait_for_eose

    async def record(subscription, seconds):
        waits.append(seconds)
        return await wait_for_eose(subscription, seconds)

    monkeypatch.setattr(Subscription, "wait_for_eose", record)

    with scripted_relay(without_eose) as endpoint:
        with suppress(RelayUnreachable):
            request_from(pool, endpoint, timeout=timeout)
        assert request_from(pool, endpoint).content == "yes"

    assert waits == [5, 0.5]


# --- relays that serve some filters only


@pytest.mark.parametrize("setting", ["ignores_broad_filters", "refuses_broad_filters"])
def test_reply_arrives_over_relay_that_needs_authors_or_p(
    relay, pool, peer_pool, setting
):
    relay.change_settings(**{setting: True})
    start_replying(peer_pool, relay)

    assert send_request(pool, [relay]).content == "re ?"


@pytest.mark.parametrize(
    "name", ["authors", "#p", "#e"], ids=["by author", "by recipient", "by event"]
)
def test_reply_arrives_over_relay_that_serves_by_one_field(pool, name):
    """Each filter of a subscription may be matched by one of its fields alone."""
    client_pubkey = pubkey_of(CLIENT_KEY)
    recipients = (client_pubkey,) if name == "#p" else ()

    def script(client):
        _, sub, *filters = client.receive_until("REQ")
        client.send("EOSE", sub)
        data = client.receive_until("EVENT")[1]
        reply = reply_to(
            sign_event(CLIENT_KEY, kind=1, content="?"),
            names=data["id"],
            recipients=recipients,
        )
        values = {
            "authors": pubkey_of(PEER_KEY),
            "#p": client_pubkey,
            "#e": data["id"],
        }
        if any(values[name] in filter.get(name, []) for filter in filters):
            client.send("EVENT", sub, reply.to_dict())
        client.receive_until("CLOSE")

    with scripted_relay(script) as endpoint:
        assert request_from(pool, endpoint).content == "re ?"


def test_old_replies_to_the_same_key_are_not_asked_for(relay, pool, peer_pool):
    filters: list[Any] = []

    def script(client):
        while True:
            _, sub, *filters[:] = client.receive_until("REQ")
            client.send("CLOSED", sub, "error: no")

    request = new_request()
    with scripted_relay(script) as endpoint, pytest.raises(RelayUnreachable):
        request_from(pool, endpoint, event=request)

    (by_recipient,) = [each for each in filters if "#p" in each]
    assert by_recipient["since"] == request.created_at - 120


def request_from(pool, endpoint, *, event=None, timeout=LIMIT):
    return pool.request(
        [endpoint],
        event or new_request(),
        author=pubkey_of(PEER_KEY),
        kind=REPLY,
        timeout=timeout,
    )
