"""Requests at once to one peer: one subscription gets the replies to all of them."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import pytest

from caravel.nostr import pubkey_of
from caravel.nostr.relays import pending
from caravel.nostr.relays.dial import RelayUnreachable
from caravel.tests.support.relay_requests import (
    CLIENT_KEY,
    endpoint_of,
    new_request,
    reply_to,
    send_request,
    start_replying,
)
from caravel.tests.support.waiting import LIMIT, result_of, wait_until


@contextmanager
def waiting_requests(number, relay, pool, peer_pool):
    """Send requests one after another; the peer replies when it is told to."""
    received = []

    def receive(event):
        received.append(event)
        return []

    def reply(event):
        answer = reply_to(event, recipients=(pubkey_of(CLIENT_KEY),))
        peer_pool.publish([endpoint_of(relay)], answer, timeout=LIMIT)

    start_replying(peer_pool, relay, receive)
    with ThreadPoolExecutor(number) as executor:
        waiting = []
        for n in range(number):
            sent = executor.submit(
                send_request, pool, [relay], event=new_request(str(n))
            )
            waiting.append(sent)
            wait_until(lambda: len(received) == len(waiting))
        yield [
            (sent, partial(reply, event))
            for sent, event in zip(waiting, received, strict=True)
        ]


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

    wait_until(lambda: relay.subscriptions == 1)  # the peer's
    (left,) = pool._connections.pending.values()
    assert (left._batches, left._hearing) == ({}, {})


def test_request_after_a_refused_subscription_subscribes_itself(relay, pool, peer_pool):
    start_replying(
        peer_pool, relay, lambda e: reply_to(e, recipients=(pubkey_of(CLIENT_KEY),))
    )
    with patch.object(pending, "_reply_filters", without_ids):
        relay.fault("closed", on="req", reason="blocked: you", times=2)
        with pytest.raises(RelayUnreachable, match="blocked"):
            send_request(pool, [relay])

        assert send_request(pool, [relay]).content == "re ?"
