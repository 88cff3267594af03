"""Thousands of requests over failing relays: one outcome each, nothing left over."""

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import Event, sign_event
from caravel.nostr.relays import background
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.pool import NoReply, RelayPool
from caravel.tests.support.waiting import LIMIT, join, result_of, wait_until
from sandbox.nostr import RelaySettings, running_relay

CLIENT_KEY, PEER_KEY = generate_secret_key(), generate_secret_key()
REQUEST, REPLY = 23194, 23195
#: Coroutines that must not be running after the requests.
TASKS = (
    "exchange",
    "_send",
    "PendingReplies._subscribe",
    "Connection._restore",
)
ROUNDS, AT_ONCE, THREADS = 6, 10, 20


@pytest.fixture
def pools():
    pool, peer_pool = RelayPool(), RelayPool()
    yield pool, peer_pool
    pool.close()
    peer_pool.close()


def reply_to_all(peer_pool, endpoint):
    """Reply once to each request."""
    executor = ThreadPoolExecutor(4)

    def reply(event):
        tags = [("e", event.id)]
        event = sign_event(PEER_KEY, kind=REPLY, content=event.content, tags=tags)
        options = {"timeout": 2, "secret_key": PEER_KEY}
        with suppress(RuntimeError):  # the executor has shut down
            executor.submit(peer_pool.publish, [endpoint], event, **options)

    filters = [{"kinds": [REQUEST]}]
    peer_pool.listen([endpoint], filters, reply, secret_key=PEER_KEY)
    return executor


def send_requests(pool, endpoints, timeout, number):
    requests = [
        sign_event(CLIENT_KEY, kind=REQUEST, content=f"{number}-{n}")
        for n in range(AT_ONCE)
    ]
    replies = pool.request_all(
        endpoints,
        requests,
        author=pubkey_of(PEER_KEY),
        kind=REPLY,
        timeout=timeout,
        secret_key=CLIENT_KEY,
    )
    return [(q, a) for q, a in zip(requests, replies, strict=True)]


def disturb(relay, random, stopped):
    while not stopped.wait(random.uniform(0.1, 0.8)):
        match random.randrange(4):
            case 0:
                relay.drop_connections()
            case 1:
                relay.end_subscriptions()
            case 2:
                relay.go_offline()
                relay.go_online()


def leftovers(pool):
    """Return the numbers of objects that requests have left in a pool."""

    async def count():
        return {
            "subscriptions": sum(
                len(c._subscriptions) for c in pool._connections.by_endpoint.values()
            ),
            "acknowledgements": sum(
                len(c._acknowledgements) for c in pool._connections.by_endpoint.values()
            ),
            "requests": sum(
                len(p._batches) for p in pool._connections.pending.values()
            ),
            "tasks": sum(
                any(part in str(task.get_coro()) for part in TASKS)
                for task in asyncio.all_tasks()
            ),
        }

    return pool.call(count(), LIMIT)


def test_each_request_has_one_outcome_and_leaves_nothing_when_relays_fail(
    pools, caplog
):
    pool, peer_pool = pools
    random, stopped = Random(47), threading.Event()
    strict = RelaySettings(requires_auth=True, late_challenge=True)
    stricter = RelaySettings(requires_auth_to_read=True, acknowledges_auth=False)
    with (
        running_relay(settings=strict) as relay,
        running_relay(settings=stricter) as second,
    ):
        endpoints = [Endpoint(r.url, private_allowed=True) for r in (relay, second)]
        relay.fault("drop", on="event", chance=0.02)
        relay.fault("disconnect", on="event", chance=0.01)
        relay.fault("disconnect", on="req", when="after", chance=0.01)
        relay.fault("closed", on="req", chance=0.1)
        relay.fault("garble", on="delivery", chance=0.02)
        relay.fault("duplicate", on="delivery", chance=0.1)
        second.fault("mute", on="event", chance=0.5)
        second.fault("mute", on="req", chance=0.5)
        repliers = reply_to_all(peer_pool, endpoints[0])
        disturbing = threading.Thread(target=disturb, args=(relay, random, stopped))
        disturbing.start()
        with ThreadPoolExecutor(THREADS) as executor:
            futures = [
                executor.submit(
                    send_requests,
                    pool,
                    endpoints if number % 3 else endpoints[:1],
                    random.choice([0.01, 0.3, 1.5]),
                    number,
                )
                for number in range(ROUNDS * THREADS)
            ]
            outcomes = [
                pair for future in futures for pair in result_of(future, "all outcomes")
            ]
        stopped.set()
        join(disturbing)
        relay.clear_faults()
        wait_until(
            lambda: isinstance(send_requests(pool, endpoints, 2, "last")[0][1], Event)
        )
        repliers.shutdown()

        assert len(outcomes) == ROUNDS * THREADS * AT_ONCE
        for request, outcome in outcomes:
            assert isinstance(outcome, Event | NoReply | RelayUnreachable)
            if isinstance(outcome, Event):
                assert outcome.content == request.content
        # RelayUnreachable means that the event was not sent.
        received = {e.id for r in (relay, second) for e in r.events(REQUEST)}
        unsent = {q.id for q, a in outcomes if isinstance(a, RelayUnreachable)}
        assert not unsent & received
        wait_until(lambda: not any(leftovers(pool).values()))
        wait_until(lambda: not background._tasks)
        wait_until(lambda: second.subscriptions == 0 and relay.subscriptions <= 1)
        for pool in pools:
            pool.close()
    gc.collect()
    assert "never retrieved" not in caplog.text
