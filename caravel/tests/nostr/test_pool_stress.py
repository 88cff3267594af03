"""Thousands of requests over a relay that keeps failing: one outcome, no traces."""

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import Event, sign_event
from caravel.nostr.relays import connection as connections_module
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.pool import NoReply, RelayPool
from sandbox.nostr import running_relay

ME, THEM = generate_secret_key(), generate_secret_key()
QUESTION, ANSWER = 23194, 23195
TASKS = "Hub._request", "Hub._ask", "Replies._subscribe", "Connection._restore"
ROUNDS, AT_ONCE, THREADS = 6, 10, 20


@pytest.fixture
def hubs():
    mine, theirs = RelayPool(), RelayPool()
    yield mine, theirs
    mine.close()
    theirs.close()


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answer(theirs, endpoint):
    """Answer each question once, whenever it comes."""
    pool = ThreadPoolExecutor(4)

    def reply(event):
        tags = [("e", event.id)]
        said = sign_event(THEM, kind=ANSWER, content=event.content, tags=tags)
        with suppress(RuntimeError):  # the pool has ended
            pool.submit(theirs.publish, [endpoint], said, timeout=2)

    theirs.listen([endpoint], [{"kinds": [QUESTION]}], reply)
    return pool


def ask_many(mine, endpoints, timeout, number):
    questions = [
        sign_event(ME, kind=QUESTION, content=f"{number}-{n}") for n in range(AT_ONCE)
    ]
    answers = mine.request_all(
        endpoints,
        questions,
        author=pubkey_of(THEM),
        kind=ANSWER,
        timeout=timeout,
    )
    return [(q, a) for q, a in zip(questions, answers, strict=True)]


def disturb(relay, random, over):
    while not over.wait(random.uniform(0.1, 0.8)):
        match random.randrange(4):
            case 0:
                relay.drop_connections()
            case 1:
                relay.end_subscriptions()
            case 2:
                relay.go_offline()
                relay.go_online()


def traces(mine):
    """Return what is left in a hub of requests that are over."""

    async def look():
        return {
            "subscriptions": sum(
                len(c._subscriptions) for c in mine._connections.values()
            ),
            "acknowledgements": sum(len(c._oks) for c in mine._connections.values()),
            "requests": sum(len(r._waiting) for r in mine._replies.values()),
            "tasks": sum(
                any(part in str(task.get_coro()) for part in TASKS)
                for task in asyncio.all_tasks()
            ),
        }

    return mine.call(look(), 5)


def test_each_request_has_one_outcome_and_leaves_nothing_behind(hubs, caplog):
    mine, theirs = hubs
    random, over = Random(47), threading.Event()
    with running_relay() as relay, running_relay() as second:
        at = [Endpoint(r.url, private_allowed=True) for r in (relay, second)]
        relay.fault("drop", on="event", chance=0.02)
        relay.fault("disconnect", on="event", chance=0.01)
        relay.fault("disconnect", on="req", when="after", chance=0.01)
        relay.fault("closed", on="req", chance=0.1)
        relay.fault("garble", on="delivery", chance=0.02)
        relay.fault("duplicate", on="delivery", chance=0.1)
        second.fault("mute", on="event", chance=0.5)
        second.fault("mute", on="req", chance=0.5)
        repliers = answer(theirs, at[0])
        disturbing = threading.Thread(target=disturb, args=(relay, random, over))
        disturbing.start()
        with ThreadPoolExecutor(THREADS) as pool:
            asked = [
                pool.submit(
                    ask_many,
                    mine,
                    at if number % 3 else at[:1],
                    random.choice([0.01, 0.3, 1.5]),
                    number,
                )
                for number in range(ROUNDS * THREADS)
            ]
            outcomes = [pair for each in asked for pair in each.result()]
        over.set()
        disturbing.join()
        relay.clear_faults()
        until(lambda: isinstance(ask_many(mine, at, 2, "last")[0][1], Event))
        repliers.shutdown()

        assert len(outcomes) == ROUNDS * THREADS * AT_ONCE
        for asking, outcome in outcomes:
            assert isinstance(outcome, Event | NoReply | RelayUnreachable)
            if isinstance(outcome, Event):
                assert outcome.content == asking.content
        # What is said not to have been sent never was.
        received = {e.id for r in (relay, second) for e in r.events(QUESTION)}
        unsent = {q.id for q, a in outcomes if isinstance(a, RelayUnreachable)}
        assert not unsent & received
        until(lambda: not any(traces(mine).values()))
        until(lambda: not connections_module._background)
        until(lambda: second.subscriptions == 0 and relay.subscriptions <= 1)
        for hub in hubs:
            hub.close()
    gc.collect()
    assert "never retrieved" not in caplog.text
