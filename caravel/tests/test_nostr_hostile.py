"""What a hostile relay can do to the process that talks to it: little."""

import asyncio
import threading
import time

import pytest

from caravel.nostr import connections as connections_module
from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.dialing import RelayUnreachable
from caravel.nostr.events import sign_event
from caravel.nostr.hub import Hub, NoReply
from caravel.tests.hostile_relay import raw_relay, scripted_relay
from sandbox.nostr import running_relay

ME, THEM = generate_secret_key(), generate_secret_key()
QUESTION, ANSWER = 23194, 23195


@pytest.fixture
def mine():
    mine = Hub()
    yield mine
    mine.close()


@pytest.fixture
def relay():
    with running_relay() as relay:
        yield relay


def question(content="?"):
    return sign_event(ME, kind=QUESTION, content=content, tags=[("p", pubkey_of(THEM))])


def answer_to(id, tags=None):
    tags = tags or [("e", id)]
    return sign_event(THEM, kind=ANSWER, content="yes", tags=tags).to_dict()


def ask(mine, endpoint, timeout=5.0, event=None):
    return mine.request(
        [endpoint],
        event or question(),
        author=pubkey_of(THEM),
        kind=ANSWER,
        timeout=timeout,
        secret_key=ME,
    )


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_loop(mine, function):
    async def run():
        return function()

    return mine.call(run(), 5)


def longest_pause(mine, seconds):
    """Return for how long at most the loop did nothing else, within so many seconds."""

    async def measure():
        worst, end = 0.0, time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            await asyncio.sleep(0.005)
            worst = max(worst, time.monotonic() - began)
        return worst

    return mine.call(measure(), seconds)


def connection_to(mine, endpoint):
    return mine._connections[endpoint]


def test_an_event_that_names_a_request_a_thousand_times_is_verified_once(mine):
    """Half a megabyte: to verify it takes 10 ms, and a minute if done for each tag."""
    sent = threading.Event()

    def script(client):
        sub, (id, *_) = (heard := client.hear_until("REQ"))[1], heard[2]["#e"]
        other = sign_event(ME, kind=ANSWER, content="", tags=[("e", id)] * 6_000)
        client.hear_until("EVENT")
        client.say("EVENT", sub, other.to_dict())
        sent.set()
        client.say("EVENT", sub, answer_to(id))
        client.hear_until("CLOSE")

    with scripted_relay(script) as endpoint:
        began = time.monotonic()
        assert ask(mine, endpoint).content == "yes"
    assert time.monotonic() - began < 3


def test_json_that_nests_too_deeply_is_ignored(mine):
    def script(client):
        sub, (id, *_) = (heard := client.hear_until("REQ"))[1], heard[2]["#e"]
        client.hear_until("EVENT")
        client.websocket.send("[" * 200_000)
        client.say("EVENT", sub, answer_to(id))
        client.hear_until("CLOSE")

    with scripted_relay(script) as endpoint:
        assert ask(mine, endpoint).content == "yes"
        assert connection_to(mine, endpoint).opened == 1


def test_a_subscription_closed_again_and_again_is_asked_for_at_growing_pauses(mine):
    asked = []

    def script(client):
        while True:
            verb, sub, *_ = client.hear()
            if verb == "REQ":
                asked.append(sub)
                for _ in range(2_000):
                    client.say("CLOSED", sub, "error: no")

    with scripted_relay(script) as endpoint:
        with pytest.raises(NoReply):
            ask(mine, endpoint, timeout=2)
        assert connection_to(mine, endpoint).opened == 1
    assert 2 <= len(asked) <= 4
    until(lambda: not connections_module._background)


def test_a_relay_never_satisfied_with_who_we_are_is_told_at_growing_pauses(mine):
    told = []

    def script(client):
        client.say("AUTH", "who?")
        while True:
            verb, given, *_ = client.hear()
            if verb == "REQ":
                client.say("CLOSED", given, "auth-required: who?")
            elif verb == "AUTH":
                told.append(given["id"])
                client.say("OK", given["id"], True, "")

    with scripted_relay(script) as endpoint, pytest.raises(NoReply):
        ask(mine, endpoint, timeout=2)
    assert 1 <= len(told) <= 5


def test_a_relay_that_hangs_up_at_once_leaves_nothing_behind(mine):
    with raw_relay(patience=0) as relay:
        for _ in range(5):
            with pytest.raises(RelayUnreachable):
                ask(mine, relay.endpoint, timeout=5)

        connection = connection_to(mine, relay.endpoint)
        assert in_loop(mine, lambda: dict(connection._subscriptions)) == {}


def test_what_was_subscribed_before_is_subscribed_on_the_connection_after(mine):
    """The relay says goodbye, is slow to hang up, and somebody connects meanwhile."""
    with raw_relay(patience=1) as relay:
        mine.listen([relay.endpoint], [{"kinds": [1]}], lambda event: None)
        until(lambda: relay.heard and not connection_to(mine, relay.endpoint).is_open)
        with pytest.raises(NoReply):
            ask(mine, relay.endpoint, timeout=0.5)
        assert relay.accepted == 2

        until(lambda: [m for m in relay.heard if m[0] == "REQ"][2:])
        assert [m[2]["kinds"] for m in relay.heard if m[0] == "REQ"].count([1]) == 2
