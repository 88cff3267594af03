"""Hostile relays cannot exhaust the process or disturb other relays."""

import itertools
import socket
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from operator import ge

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import parse_event, sign_event
from caravel.nostr.relays import background, pending
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.pool import RelayPool
from caravel.nostr.relays.subscriptions import SubscriptionRefused
from caravel.tests.support.hostile_relay import (
    http_server,
    raw_relay,
    scripted_relay,
)
from caravel.tests.support.waiting import LIMIT, result_of, wait_until
from sandbox.nostr import running_relay

CLIENT_KEY, PEER_KEY = generate_secret_key(), generate_secret_key()
REQUEST, REPLY = 23194, 23195


def new_request(content="?"):
    return sign_event(
        CLIENT_KEY, kind=REQUEST, content=content, tags=[("p", pubkey_of(PEER_KEY))]
    )


def reply_to(id, tags=None):
    tags = tags or [("e", id)]
    return sign_event(PEER_KEY, kind=REPLY, content="yes", tags=tags).to_dict()


def send_request(pool, endpoint, timeout=LIMIT, event=None):
    return pool.request(
        [endpoint],
        event or new_request(),
        author=pubkey_of(PEER_KEY),
        kind=REPLY,
        timeout=timeout,
        secret_key=CLIENT_KEY,
    )


@contextmanager
def closed_port():
    """Bind a port on which no server listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def in_loop(pool, function):
    async def run():
        return function()

    return pool.call(run(), LIMIT)


def connection_to(pool, endpoint):
    return pool._connections.by_endpoint[endpoint]


def test_event_with_thousands_of_references_to_request_is_not_verified(
    pool, monkeypatch
):
    """Verifying 512 KiB takes 10 ms; once per tag it would take a minute."""
    verified = []

    def verify(data):
        verified.append(data["pubkey"])
        return parse_event(data)

    monkeypatch.setattr(pending, "parse_event", verify)
    sent = threading.Event()

    def script(client):
        sub, (id, *_) = (message := client.receive_until("REQ"))[1], message[2]["#e"]
        client.send("EOSE", sub)
        other = sign_event(CLIENT_KEY, kind=REPLY, content="", tags=[("e", id)] * 6_000)
        client.receive_until("EVENT")
        client.send("EVENT", sub, other.to_dict())
        sent.set()
        client.send("EVENT", sub, reply_to(id))
        client.receive_until("CLOSE")

    with scripted_relay(script) as endpoint:
        assert send_request(pool, endpoint).content == "yes"
    assert sent.is_set()
    assert verified == [pubkey_of(PEER_KEY)]


def test_fetch_ends_when_relay_never_stops_sending_events(pool):
    """The relay sends valid events without end, and no EOSE."""

    def script(client):
        sub = client.receive_until("REQ")[1]
        for number in itertools.count():
            event = sign_event(
                PEER_KEY, kind=13194, content=f"{number} " + "x" * 10_000
            )
            client.send("EVENT", sub, event.to_dict())

    with scripted_relay(script) as endpoint:
        for timeout in (1, 10, LIMIT):  # the first suffices unless the machine is busy
            result = pool.fetch([endpoint], [{"kinds": [13194]}], timeout=timeout)
            if result.events:
                break

    assert 1 <= len(result.events) <= 100
    assert not result.complete


def test_close_waits_for_unresponsive_relays_concurrently():
    closing_pool = RelayPool()
    with ExitStack() as relays:
        held = [relays.enter_context(raw_relay(close_after=-1)) for _ in range(8)]
        endpoints = [relay.endpoint for relay in held]
        closing_pool.listen(endpoints, [{"kinds": [1]}], lambda event: None)
        wait_until(lambda: all(relay.received for relay in held))

        closing_pool.close()

        # It waits a second for each, and stops after five.
        wait_until(lambda: all(relay.close_frames for relay in held))


def test_slow_name_servers_do_not_delay_our_relays(strangers, monkeypatch):
    """Tenants can name hosts whose name servers do not answer."""
    released, getaddrinfo = threading.Event(), socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        if host.endswith(".example"):
            released.wait(2 * LIMIT)
            raise OSError("the name server does not answer")
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    untrusted = [Endpoint(f"ws://{number}.example") for number in range(100)]
    with running_relay() as relay, ThreadPoolExecutor(1) as executor:
        future = executor.submit(
            strangers.fetch, untrusted, [{"kinds": [1]}], timeout=2 * LIMIT
        )
        wait_until(lambda: len(strangers._connections.by_endpoint) == 100)
        ours = Endpoint(relay.url, private_allowed=True, is_ours=True)

        assert strangers.fetch([ours], [{"kinds": [1]}], timeout=LIMIT).complete
        released.set()
        with pytest.raises(RelayUnreachable):
            result_of(future, "the end of the fetch")


def test_unused_connections_are_dropped(pool):
    with running_relay() as relay:
        held = Endpoint(relay.url, private_allowed=True)
        pool.listen([held], [{"kinds": [1]}], lambda event: None)
        wait_until(lambda: relay.subscriptions == 1)
        with closed_port() as port:
            for number in range(300):
                unreachable = Endpoint(
                    f"ws://127.0.0.1:{port}/{number}", private_allowed=True
                )
                with pytest.raises(RelayUnreachable):
                    send_request(pool, unreachable)

    assert len(pool._connections.by_endpoint) <= 101
    assert len(pool._connections.pending) <= 101
    assert held in pool._connections.by_endpoint


@pytest.mark.parametrize(
    "response",
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
def test_http_server_that_is_no_relay_is_unreachable(pool, response):
    with http_server(response) as endpoint, pytest.raises(RelayUnreachable):
        pool.fetch([endpoint], [{"kinds": [1]}], timeout=LIMIT)


def test_deeply_nested_json_is_ignored(pool):
    def script(client):
        sub, (id, *_) = (message := client.receive_until("REQ"))[1], message[2]["#e"]
        client.send("EOSE", sub)
        client.receive_until("EVENT")
        client.websocket.send("[" * 200_000)
        client.send("EVENT", sub, reply_to(id))
        client.receive_until("CLOSE")

    with scripted_relay(script) as endpoint:
        assert send_request(pool, endpoint).content == "yes"
        assert connection_to(pool, endpoint).connect_count == 1


def test_subscription_that_relay_keeps_closing_is_repeated_with_growing_delays(pool):
    times = defaultdict(list)

    def script(client):
        while True:
            verb, sub, *_ = client.receive()
            if verb == "REQ":
                times[sub].append(time.monotonic())
                for _ in range(2_000):
                    client.send("CLOSED", sub, "error: no")

    with scripted_relay(script) as endpoint:
        pool.listen([endpoint], [{"kinds": [1]}], lambda event: None)
        wait_until(lambda: any(times[sub][2:] for sub in list(times)))
        assert connection_to(pool, endpoint).connect_count == 1
        with pytest.raises(SubscriptionRefused, match="error: no"):
            send_request(pool, endpoint)
    assert_delays_grow(times, [0.5, 1, 2, 4, 8, 16])
    wait_until(lambda: not background._tasks)


def test_authentication_that_never_suffices_is_repeated_with_growing_delays(pool):
    times, auth_ids = defaultdict(list), []

    def script(client):
        client.send("AUTH", "who?")
        while True:
            verb, argument, *_ = client.receive()
            if verb == "REQ":
                times[argument].append(time.monotonic())
                client.send("CLOSED", argument, "auth-required: who?")
            elif verb == "AUTH":
                auth_ids.append(argument["id"])
                client.send("OK", argument["id"], True, "")

    with scripted_relay(script) as endpoint:
        pool.listen(
            [endpoint], [{"kinds": [1]}], lambda event: None, secret_key=CLIENT_KEY
        )
        wait_until(lambda: any(times[sub][2:] for sub in list(times)))
        with pytest.raises(SubscriptionRefused, match="auth-required"):
            send_request(pool, endpoint)
    assert_delays_grow(times, [0, 1, 2, 4, 8, 16])
    assert 1 <= len(auth_ids) <= sum(map(len, times.values()))


def assert_delays_grow(times, shortest):
    """Compare the delays between requests of each subscription with the shortest."""
    for requested_at in times.values():
        delays = [later - earlier for earlier, later in pairwise(requested_at)]
        assert all(map(ge, delays, shortest)), delays


def test_relay_that_closes_at_once_leaves_no_subscriptions(pool):
    with raw_relay(close_after=0) as relay:
        for _ in range(5):
            with pytest.raises(RelayUnreachable):
                send_request(pool, relay.endpoint)

        connection = connection_to(pool, relay.endpoint)
        assert in_loop(pool, lambda: len(connection._subscriptions)) == 0


def test_subscription_is_removed_if_all_requests_end_before_it_is_refused(
    pool, monkeypatch
):
    """The name server answers after the request has timed out."""
    released, refused = threading.Event(), threading.Event()
    getaddrinfo = socket.getaddrinfo

    def resolve(*args, **kwargs):
        released.wait(LIMIT)
        return getaddrinfo(*args, **kwargs)

    def script(client):
        for _ in range(2):
            client.send("CLOSED", client.receive_until("REQ")[1], "error: no")
        refused.set()
        client.receive_until("never")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with scripted_relay(script) as endpoint:
        with pytest.raises(RelayUnreachable, match="in time"):
            send_request(pool, endpoint, timeout=0.3)
        released.set()
        assert refused.wait(LIMIT)

        connection = connection_to(pool, endpoint)
        wait_until(lambda: in_loop(pool, lambda: len(connection._subscriptions)) == 0)


def test_subscriptions_of_closing_connection_are_repeated_on_next_one(pool):
    """A fetch reconnects while the relay is slow to close the old connection."""
    with raw_relay(close_after=1) as relay:
        pool.listen([relay.endpoint], [{"kinds": [1]}], lambda event: None)
        wait_until(
            lambda: relay.received and not connection_to(pool, relay.endpoint).is_open
        )
        pool.fetch([relay.endpoint], [{"kinds": [2]}], timeout=0.5)

        wait_until(lambda: relay.requests_for([1]) == 2)
        assert relay.accepted == 2


@pytest.mark.parametrize("domain", ["slow.example", "slow.co.uk"])
def test_names_of_one_domain_do_not_occupy_all_threads(strangers, monkeypatch, domain):
    """All names of a domain have the same name server, which does not answer."""
    released, asked, getaddrinfo = threading.Event(), [], socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        if host.endswith(f".{domain}"):
            asked.append(host)
            released.wait(2 * LIMIT)
            raise OSError("the name server does not answer")
        return getaddrinfo("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    slow = [Endpoint(f"ws://{number}.{domain}") for number in range(100)]
    with running_relay() as relay, ThreadPoolExecutor(1) as executor:
        fetching = executor.submit(
            strangers.fetch, slow, [{"kinds": [1]}], timeout=2 * LIMIT
        )
        wait_until(lambda: asked)
        port = relay.url.rpartition(":")[2]
        honest = Endpoint(
            f"ws://relay.{domain.replace('slow', 'honest')}:{port}",
            private_allowed=True,
        )

        assert strangers.fetch([honest], [{"kinds": [1]}], timeout=LIMIT).complete
        released.set()
        with pytest.raises(RelayUnreachable):
            result_of(fetching, "the end of the fetch")
    assert len(asked) <= 8


def test_many_wallets_at_one_host_are_reached_at_once(strangers, monkeypatch):
    """Some services give each wallet a URL of its own, and payments fall together."""
    released, getaddrinfo = threading.Event(), socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        released.wait(LIMIT)
        return getaddrinfo("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with running_relay() as relay, ThreadPoolExecutor(1) as executor:
        port = relay.url.rpartition(":")[2]
        urls = [f"ws://nwc.wallet.example:{port}/{number}" for number in range(128)]
        fetching = executor.submit(
            strangers.fetch,
            [Endpoint(url, private_allowed=True) for url in urls],
            [{"kinds": [1]}],
            timeout=2 * LIMIT,
        )
        wait_until(lambda: len(strangers._connections.by_endpoint) == 128)
        released.set()

        assert result_of(fetching, "the end of the fetch").complete
