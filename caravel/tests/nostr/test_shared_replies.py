"""Requests at once to one peer: one subscription gets the replies to all of them."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain
from unittest.mock import patch

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.relays import pending, subscriptions
from caravel.nostr.relays.dial import RelayUnreachable
from caravel.nostr.relays.exchange import Sending
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
from caravel.tests.support.waiting import LIMIT, result_of, wait_until


@contextmanager
def slow_peer(relay, pool, peer_pool):
    """Return a function that sends a request, to which the peer replies when told."""
    received = set()

    def receive(event):
        received.add(event.id)
        return []

    def reply(event):
        answer = reply_to(event, recipients=(pubkey_of(CLIENT_KEY),))
        peer_pool.publish([endpoint_of(relay)], answer, timeout=LIMIT)

    start_replying(peer_pool, relay, receive)
    with ThreadPoolExecutor(10) as executor:

        def send():
            number = len(received)
            event = new_request(str(number))
            sent = executor.submit(send_request, pool, [relay], event=event)
            wait_until(lambda: len(received) > number)
            return sent, partial(reply, event)

        yield send


@contextmanager
def waiting_requests(number, relay, pool, peer_pool):
    """Send requests one after another; the peer replies when it is told to."""
    with slow_peer(relay, pool, peer_pool) as send:
        yield [send() for _ in range(number)]


def send_at_once(pool, relay, *events):
    endpoints, peer = [endpoint_of(relay)], pubkey_of(PEER_KEY)
    sendings = [Sending(endpoints, event, peer, REPLY) for event in events]
    replies = dict(chain.from_iterable(pool.request_each(sendings, LIMIT)))
    return [replies[i] for i in range(len(events))]


def without_ids(kind, requests, pairs, filters=pending._reply_filters):
    """Return the filters that are left at a relay which does not know `#e`."""
    return filters(kind, requests, pairs)[1:] or [{"kinds": [kind], "ids": ["0" * 64]}]


def test_reply_is_received_twice_however_many_requests_wait(relay, pool, peer_pool):
    received = []
    accept = pending.PendingReplies._accept

    def count(self, data):
        received.append(data)
        accept(self, data)

    with (
        patch.object(pending.PendingReplies, "_accept", count),
        waiting_requests(10, relay, pool, peer_pool) as waiting,
    ):
        for _, reply in waiting:
            reply()
        replies = [result_of(sent, "the reply").content for sent, _ in waiting]

    assert replies == [f"re {n}" for n in range(10)]
    assert len(received) <= 2 * 10


def test_subscription_to_a_peer_stays_as_long_as_another_request_waits(
    relay, pool, peer_pool
):
    with (
        patch.object(pending, "_reply_filters", without_ids),
        waiting_requests(3, relay, pool, peer_pool) as waiting,
    ):
        for n, (sent, reply) in enumerate(waiting):
            reply()
            assert result_of(sent, "the reply").content == f"re {n}"

    wait_until(lambda: relay.subscriptions == 1)
    (left,) = pool._connections.pending.values()
    assert (left._batches, left._hearing) == ({}, {})


def test_subscription_to_a_peer_ends_in_time_though_requests_always_wait(
    relay, pool, peer_pool
):
    with slow_peer(relay, pool, peer_pool) as send:
        first, reply_to_first = send()
        second, reply_to_second = send()
        with patch.object(pending, "_MAX_AGE", 0.0):
            third, reply_to_third = send()
        for sent, reply in ((first, reply_to_first), (second, reply_to_second)):
            reply()
            result_of(sent, "the reply")

        wait_until(lambda: relay.subscriptions == 2)
        reply_to_third()
        result_of(third, "the reply")


def test_request_after_a_refused_subscription_subscribes_itself(relay, pool, peer_pool):
    start_replying(
        peer_pool, relay, lambda e: reply_to(e, recipients=(pubkey_of(CLIENT_KEY),))
    )
    with patch.object(pending, "_reply_filters", without_ids):
        relay.fault("closed", on="req", reason="blocked: you", times=2)
        with pytest.raises(RelayUnreachable, match="blocked"):
            send_request(pool, [relay])

        assert send_request(pool, [relay]).content == "re ?"


def test_request_does_not_rely_on_a_subscription_that_was_interrupted(
    relay, pool, peer_pool
):
    with (
        patch.object(pending, "_reply_filters", without_ids),
        slow_peer(relay, pool, peer_pool) as send,
    ):
        first, reply_to_first = send()
        relay.fault("hold", on="req", author=pubkey_of(PEER_KEY), times=1)
        relay.end_subscriptions()
        wait_until(lambda: (relay.held, relay.subscriptions) == (1, 1))

        second, reply_to_second = send()
        reply_to_second()
        assert result_of(second, "the reply").content == "re 1"

        relay.release()
        wait_until(lambda: relay.subscriptions == 2)
        reply_to_first()
        assert result_of(first, "the reply").content == "re 0"


def test_refused_subscription_fails_no_later_request(relay, pool, peer_pool):
    """Neither one by the same key nor what else is in its batch."""
    start_replying(peer_pool, relay)
    peer = pubkey_of(PEER_KEY)
    send = partial(send_at_once, pool, relay)
    relay.fault("closed", on="req", author=peer, times=1)
    with patch.object(subscriptions, "_MIN_DELAY", 1.0), ThreadPoolExecutor(2) as each:
        first = each.submit(send, new_request("0"))
        wait_until(lambda: relay.requests == 2)
        other = new_request("2", secret_key=generate_secret_key())
        later = each.submit(send, new_request("1"), other)
        wait_until(lambda: relay.requests == 3)
        relay.fault("closed", on="req", author=peer, times=1)

        (refused,) = result_of(first, "the refusal")
        replies = result_of(later, "the replies")

    assert isinstance(refused, RelayUnreachable)
    assert [reply.content for reply in replies] == ["re 1", "re 2"]


def test_ended_batch_is_forgotten_while_a_later_one_waits(relay, pool, peer_pool):
    first, later = new_request("0"), new_request("1")
    other = new_request("2", secret_key=generate_secret_key())
    with ThreadPoolExecutor(2) as executor:
        send = partial(send_at_once, pool, relay)
        sent = [executor.submit(send, first)]
        wait_until(lambda: relay.count(REQUEST) == 1)
        (left,) = pool._connections.pending.values()
        batch = weakref.ref(left._batches[first.id])
        sent.append(executor.submit(send, later, other))
        wait_until(lambda: relay.count(REQUEST) == 3)

        for event in (first, later):
            peer_pool.publish([endpoint_of(relay)], reply_to(event), timeout=LIMIT)
        wait_until(lambda: list(left._batches) == [other.id])
        gc.collect()
        assert batch() is None

        peer_pool.publish([endpoint_of(relay)], reply_to(other), timeout=LIMIT)
        for each in sent:
            result_of(each, "the replies")
    assert left._heard_by == {}
