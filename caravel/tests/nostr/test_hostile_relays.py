"""What a hostile relay can do to the process that talks to it: little."""

import itertools
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import sign_event
from caravel.nostr.relays import connection as connections_module
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.pool import NoReply, RelayPool
from caravel.tests.support.hostile_relay import (
    answering_http,
    raw_relay,
    scripted_relay,
)
from sandbox.nostr import running_relay

ME, THEM = generate_secret_key(), generate_secret_key()
QUESTION, ANSWER = 23194, 23195


@pytest.fixture
def mine():
    mine = RelayPool()
    yield mine
    mine.close()


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


@contextmanager
def closed_port():
    """A port that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def in_loop(mine, function):
    async def run():
        return function()

    return mine.call(run(), 5)


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


def test_a_relay_that_never_stops_telling_is_heard_only_for_so_long(mine):
    """It has no end of events, each signed, and it never says that this is all."""

    def script(client):
        sub = client.hear_until("REQ")[1]
        for number in itertools.count():
            event = sign_event(THEM, kind=13194, content=f"{number} " + "x" * 10_000)
            client.say("EVENT", sub, event.to_dict())

    with scripted_relay(script) as endpoint:
        found = mine.fetch([endpoint], [{"kinds": [13194]}], timeout=3)

    assert 1 <= len(found.events) <= 100
    assert not found.complete


def test_a_flood_takes_only_its_share_of_the_time(mine, monkeypatch):
    monkeypatch.setattr(connections_module, "_BURST", 0.05)
    over = threading.Event()

    def script(client):
        sub, (id, *_) = (heard := client.hear_until("REQ"))[1], heard[2]["#e"]
        forged = answer_to(id) | {"content": "x" * 20_000}
        message = json.dumps(["EVENT", sub, forged])
        while not over.is_set():
            client.websocket.send(message)

    with scripted_relay(script) as endpoint, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, mine, endpoint, timeout=4)
        until(lambda: endpoint in mine._connections)
        began, busy = time.monotonic(), in_loop(mine, time.thread_time)
        with pytest.raises(NoReply):
            asked.result()
        busy = in_loop(mine, time.thread_time) - busy
        over.set()
        in_loop(
            mine, lambda: connection_to(mine, endpoint)._websocket.transport.abort()
        )

        assert busy / (time.monotonic() - began) < 0.4


def test_relays_that_do_not_let_go_delay_the_end_together():
    ending = RelayPool()
    with ExitStack() as relays:
        held = [relays.enter_context(raw_relay(patience=-1)) for _ in range(8)]
        endpoints = [relay.endpoint for relay in held]
        ending.listen(endpoints, [{"kinds": [1]}], lambda event: None)
        until(lambda: all(relay.heard for relay in held))
        began = time.monotonic()

        ending.close()

        assert time.monotonic() - began < 4


def test_names_that_are_slow_to_look_up_hold_up_only_each_other(mine, monkeypatch):
    """Strangers name hosts whose name servers do not answer."""
    slow, true = threading.Event(), socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        if host.endswith(".example"):
            slow.wait(20)
            raise OSError("the name server does not answer")
        return true(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    strangers = [Endpoint(f"ws://{number}.example") for number in range(100)]
    with running_relay() as relay, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(mine.fetch, strangers, [{"kinds": [1]}], timeout=5)
        until(lambda: len(mine._connections) == 100)
        ours = Endpoint(relay.url, private_allowed=True)

        assert mine.fetch([ours], [{"kinds": [1]}], timeout=2).complete
        slow.set()
        with pytest.raises(RelayUnreachable):
            asked.result()


def test_relays_that_are_needed_no_more_are_forgotten(mine):
    with running_relay() as relay:
        held = Endpoint(relay.url, private_allowed=True)
        mine.listen([held], [{"kinds": [1]}], lambda event: None)
        until(lambda: relay.subscriptions == 1)
        with closed_port() as port:
            for number in range(300):
                gone = Endpoint(f"ws://127.0.0.1:{port}/{number}", private_allowed=True)
                with pytest.raises(RelayUnreachable):
                    ask(mine, gone, timeout=5)

    assert len(mine._connections) <= 101
    assert len(mine._replies) <= 101
    assert held in mine._connections


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 301 Moved\r\nLocation: ws://a.example\r\nLocation: b\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: zip\r\n\r\n",
        b"HTTP/1.1 4x4 OK\r\n\r\n",
        b"A: b\r\n" * 300,
        b"\x00" * 10_000,
        b"",
    ],
)
def test_whatever_a_server_answers_it_is_no_relay(mine, answer):
    with answering_http(answer) as endpoint, pytest.raises(RelayUnreachable):
        mine.fetch([endpoint], [{"kinds": [1]}], timeout=5)


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
