"""Greedy relays get a limited share of the time, and honest ones come first."""

import asyncio
import gc
import json
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from unittest.mock import Mock

import pytest
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from caravel.nostr import pubkey_of
from caravel.nostr.relays import time_share, websocket
from caravel.nostr.relays.dial import RelayUnreachable
from caravel.nostr.relays.limits import STRANGERS
from caravel.nostr.relays.pool import RelayPool
from caravel.nostr.relays.shared_connections import TooManyConnections
from caravel.nostr.relays.time_share import TURN, RelayTime, TimeShare
from caravel.nostr.relays.websocket import MeteredConnection, parse_message
from caravel.tests.support.floods import FLOODS, flooding_relays, forged_events
from caravel.tests.support.hostile_relay import deaf_relay, scripted_relay
from caravel.tests.support.relay_requests import (
    PEER_KEY,
    REPLY,
    endpoint_of,
    new_request,
    reply_to,
    send_request,
    start_replying,
)
from caravel.tests.support.waiting import LIMIT, wait_until
from sandbox.nostr import running_relay

FETCHED = [{"kinds": [1], "authors": [pubkey_of(PEER_KEY)]}]


@contextmanager
def flooded(pool, flood, number):
    """Let a number of relays flood the pool."""
    author = pubkey_of(PEER_KEY)
    with (
        flooding_relays(flood, ["127.0.0.1"] * number, author=author) as endpoints,
        ThreadPoolExecutor(1) as executor,
    ):
        fetching = executor.submit(pool.fetch, endpoints, FETCHED, timeout=2 * LIMIT)
        connections = pool._connections.by_endpoint
        wait_until(lambda: len(connections) == number)
        wait_until(lambda: all(c.connect_count for c in connections.values()))
        yield
        pool.close()
        fetching.exception(LIMIT)


class Loop:
    """Event loop on a clock of its own, which runs what `TimeShare` schedules."""

    def __init__(self) -> None:
        self.now = 0.0
        self._at = 0.0
        self._callback: Callable[[], None] = Mock()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Mock:
        self._at, self._callback = self.now + delay, callback
        return Mock()

    def run_next(self) -> None:
        self.now = max(self.now, self._at) + 1e-6  # time never stands still
        self._callback()


def test_five_greedy_relays_together_get_the_share_of_all(monkeypatch):
    loop = Loop()
    monkeypatch.setattr(time_share, "time", Mock(monotonic=lambda: loop.now))
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    share = TimeShare(0.2)
    turns: Counter[RelayTime] = Counter()

    def flood(relay: RelayTime) -> None:
        turns[relay] += 1
        loop.now += TURN
        relay.charge(TURN)
        relay.run_later(partial(flood, relay))

    for relay in [RelayTime(share) for _ in range(5)]:
        relay.run_later(partial(flood, relay))
    while loop.now < 20:
        loop.run_next()

    assert 0.19 < turns.total() * TURN / loop.now < 0.22
    assert max(turns.values()) <= 1.1 * min(turns.values())


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect no garbage of the test run's in a thread whose time is measured."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("flood", FLOODS)
def test_most_of_the_time_that_a_flood_takes_is_charged(strangers, flood, monkeypatch):
    charged = []

    def charge(share, seconds, charge=TimeShare.charge):
        charged.append(seconds)
        charge(share, seconds)

    async def measure():
        return time.thread_time(), sum(charged)

    monkeypatch.setattr(TimeShare, "charge", charge)
    with flooded(strangers, flood, 5), without_garbage_collection():
        used_before, charged_before = strangers.call(measure(), LIMIT)
        wait_until(lambda: sum(charged) > charged_before + 0.15)
        used, all_charged = strangers.call(measure(), LIMIT)

    assert used - used_before < 2 * (all_charged - charged_before)


def test_honest_relay_is_served_before_thirty_greedy_ones(
    strangers, peer_pool, monkeypatch
):
    turns: Counter[RelayTime] = Counter()
    waited: dict[RelayTime, int] = {}

    def enqueue(share, relay_time, enqueue=TimeShare.enqueue):
        waited.setdefault(relay_time, turns.total())
        enqueue(share, relay_time)

    delays: dict[RelayTime, list[int]] = {}

    def take_turn(relay_time, take_turn=RelayTime.take_turn):
        delay = turns.total() - waited.pop(relay_time)
        delays.setdefault(relay_time, []).append(delay)
        turns[relay_time] += 1
        take_turn(relay_time)

    monkeypatch.setattr(TimeShare, "enqueue", enqueue)
    monkeypatch.setattr(RelayTime, "take_turn", take_turn)
    with running_relay() as relay, flooded(strangers, forged_events, 30):
        start_replying(peer_pool, relay)
        greedy = list(strangers._connections.by_endpoint.values())
        wait_until(lambda: all(each.time.used > 0.006 for each in greedy))
        for _ in range(5):
            assert send_request(strangers, [relay]).content == "re ?"

        honest = strangers._connections.by_endpoint[endpoint_of(relay)].time

    assert max(delays[honest]) <= 1
    assert turns.total() > 10 * turns[honest]


def test_relay_that_delivers_replies_does_not_count_as_greedy(strangers, peer_pool):
    with running_relay() as relay:
        start_replying(peer_pool, relay)
        send_request(strangers, [relay])
        connection = strangers._connections.by_endpoint[endpoint_of(relay)]
        connection.time._used, connection.time._updated_at = 500.0, time.monotonic()

        send_request(strangers, [relay])

        assert connection.time.used < 5


def test_waiting_relays_get_turns_by_their_used_time(strangers):
    order: list[str] = []

    async def take_turns():
        share = TimeShare(1.0)
        for name, seconds in [("most", 3), ("least", 1), ("more", 2)]:
            relay = RelayTime(share)
            relay.charge(seconds / 100)
            relay.run_later(partial(order.append, name))

    strangers.call(take_turns(), LIMIT)
    wait_until(lambda: len(order) == 3)

    assert order == ["least", "more", "most"]


def test_end_of_a_stream_whose_bytes_wait_ends_the_turns_of_no_relay(strangers):
    """TLS reports the end although reading is paused."""
    served = []

    async def receive():
        share = TimeShare(1.0)
        first, second = RelayTime(share), RelayTime(share)
        first.run_later(lambda: None)  # so that the bytes wait for a turn
        protocol = ClientProtocol(parse_uri("wss://a.example"))
        connection = MeteredConnection(protocol, relay_time=first)
        connection.connection_made(Mock(spec=asyncio.Transport))
        connection.data_received(b"HTTP/1.1 101")
        connection.eof_received()
        second.charge(0.001)  # its turn comes after those of the first
        second.run_later(lambda: served.append(second))

    strangers.call(receive(), LIMIT)

    wait_until(lambda: served)


def test_turn_that_fails_ends_the_turns_of_no_relay(strangers):
    served = []

    async def take_turns():
        share = TimeShare(1.0)
        first, second = RelayTime(share), RelayTime(share)
        first.run_later(Mock(side_effect=ZeroDivisionError))
        first.run_later(lambda: served.append(first))
        second.run_later(lambda: served.append(second))

    strangers.call(take_turns(), LIMIT)

    wait_until(lambda: len(served) == 2)


# --- messages


@pytest.mark.parametrize(
    "message",
    [
        f'["EVENT","mine",[{",".join(["[]"] * 20_000)}]]',
        '["EVENT","mine",' + '{"a":' * 5_000,
        '["EVENT","other",{"id":"ab"}]',
        '{"EVENT": "mine"}',
        '["COUNT","mine",{"count":1}]',
        "[" * 60_000,
        '[["EVENT","mine"]]',
        b'["EVENT","mine",{"id":"ab"}]',
    ],
)
def test_message_that_nobody_waits_for_is_not_parsed(monkeypatch, message):
    parsed: list[object] = []
    monkeypatch.setattr(json, "loads", parsed.append)

    assert parse_message(message, {"mine"}) is None
    assert parsed == []


@pytest.mark.parametrize(
    "message",
    [
        ["EVENT", "mine", {"tags": [["r", f"wss://{n}.example"] for n in range(2000)]}],
        ["EOSE", "mine"],
        ["OK", "ab", True, ""],
        ["AUTH", "challenge"],
        ["NOTICE", "[" * 100],
        ["CLOSED", "mine", "error: no"],
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (" , ", " : ")])
def test_message_that_somebody_waits_for_is_parsed(message, separators):
    text = json.dumps(message, separators=separators)

    assert parse_message(f"\n {text}", {"mine"}) == message


def test_large_message_of_a_stranger_is_ignored_and_cuts_off_nobody(strangers):
    """Several wallets can use the relay to which one of them sends it."""

    def script(client):
        sub = client.receive_until("REQ")[1]
        client.send("EOSE", sub)
        id = client.receive_until("EVENT")[1]["id"]
        for content in ("x" * 200_000, "small"):
            reply = reply_to(new_request(content), names=id)
            client.send("EVENT", sub, reply.to_dict())
        client.receive_until("never")

    with scripted_relay(script) as endpoint:
        reply = strangers.request(
            [endpoint],
            new_request(),
            author=pubkey_of(PEER_KEY),
            kind=REPLY,
            timeout=LIMIT,
        )
        assert strangers.connect_count(endpoint) == 1

    assert reply.content == "re small"


def test_relay_that_reads_no_pongs_is_disconnected(strangers, monkeypatch):
    """It sends pings: each answer would wait in our memory."""
    monkeypatch.setattr(websocket, "_MAX_UNREAD", 10_000)
    with deaf_relay() as (endpoint, disconnected), ThreadPoolExecutor(1) as executor:
        fetching = executor.submit(strangers.fetch, [endpoint], FETCHED, timeout=LIMIT)
        assert disconnected.wait(LIMIT)
        strangers.close()
        fetching.exception(LIMIT)


# --- connections


def test_connection_to_a_stranger_is_closed_soon_after_use(relay):
    assert STRANGERS.idle_timeout <= 10
    with closing(RelayPool(replace(STRANGERS, idle_timeout=0.05))) as pool:
        pool.fetch([endpoint_of(relay)], FETCHED, timeout=LIMIT)

        wait_until(lambda: relay.connections == 0)


@pytest.mark.parametrize(
    "limits",
    [
        replace(STRANGERS, max_connections=2, max_connections_per_host=9),
        replace(STRANGERS, max_connections=9, max_connections_per_host=2),
    ],
)
def test_relays_in_use_keep_their_places_and_unused_ones_lose_theirs(limits):
    with (
        closing(RelayPool(limits)) as pool,
        running_relay() as used,
        running_relay() as unused,
        running_relay() as further,
    ):
        pool.listen([endpoint_of(used)], FETCHED, lambda event: None)
        pool.fetch([endpoint_of(unused)], FETCHED, timeout=LIMIT)

        pool.fetch([endpoint_of(further)], FETCHED, timeout=LIMIT)
        wait_until(lambda: unused.connections == 0)
        pool.listen([endpoint_of(further)], FETCHED, lambda event: None)
        with pytest.raises(TooManyConnections):
            pool.fetch([endpoint_of(unused)], FETCHED, timeout=LIMIT)

        assert used.subscriptions == 1
        assert unused.accepted == 1


def test_relay_that_resets_the_connection_after_pings_does_not_fill_the_log(
    strangers, caplog
):
    """asyncio logs each write to a connection that is lost."""

    def script(client):
        client.receive_until("REQ")
        sock = client.websocket.socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(b"\x89\x00" * 50_000)
        time.sleep(0.1)  # so that some are read
        sock.close()

    with scripted_relay(script) as endpoint, pytest.raises(RelayUnreachable):
        strangers.fetch([endpoint], FETCHED, timeout=LIMIT)

    assert "socket.send() raised exception" not in caplog.text
