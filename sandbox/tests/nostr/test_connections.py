"""Connections of the relay: many, broken and refused ones."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.exceptions import ConnectionClosed

from caravel.tests.support.waiting import wait_until
from sandbox.nostr import SandboxRelay
from sandbox.tests.support.relay_client import connected, event_of, note


def test_each_of_a_thousand_subscriptions_gets_its_own_event(relay):
    ids = [f"{number:064x}" for number in range(1_000)]
    with connected(relay.url) as reader, connected(relay.url) as writer:
        for number, event_id in enumerate(ids):
            reader.send("REQ", str(number), {"kinds": [23195], "#e": [event_id]})
        assert {reader.receive()[0] for _ in ids} == {"EOSE"}
        assert relay.subscriptions == 1_000

        for event_id in ids[::100]:
            writer.publish(note(kind=23195, tags=[["e", event_id]]))

        for number, message in zip(
            range(0, 1_000, 100), reader.receive_all(), strict=True
        ):
            assert event_of(message, str(number)).values("e") == [ids[number]]
    wait_until(lambda: relay.subscriptions == 0)


def test_closed_connections_leave_no_subscriptions(relay):
    for _ in range(20):
        with connected(relay.url) as client:
            client.subscribe({})
            assert relay.connections == 1
        wait_until(lambda: relay.connections == 0)

    assert relay.subscriptions == 0
    assert relay.accepted == 20


def test_aborted_connection_leaves_no_subscriptions(relay):
    with connected(relay.url) as client, connected(relay.url) as writer:
        client.subscribe({})

        client.wire.socket.shutdown(socket.SHUT_RDWR)

        wait_until(lambda: relay.connections == 1)
        assert relay.subscriptions == 0
        assert writer.publish(note()) == (True, "")


def test_client_that_never_reads_is_disconnected(relay, monkeypatch):
    monkeypatch.setattr("sandbox.nostr.session.MAX_BACKLOG", 1_000_000)
    big = note("x" * 400_000)
    with connected(relay.url) as writer, connected(relay.url, max_queue=1) as reader:
        for number in range(100):
            reader.send("REQ", str(number), {})
        wait_until(lambda: relay.subscriptions == 100)

        assert writer.publish(big) == (True, "")

        assert relay.connections == 1
        assert writer.publish(note()) == (True, "")
        # A normal close would wait for an answer behind the unread messages.
        reader.wire.socket.shutdown(socket.SHUT_RDWR)


def test_going_offline_breaks_connections_and_refuses_new_ones(relay):
    port = relay.port
    with connected(relay.url) as client:
        client.publish(event := note())

        relay.go_offline()

        with pytest.raises(ConnectionClosed):
            client.receive()
        assert relay.connections == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=60)
        relay.go_offline()

    relay.go_online()
    relay.go_online()
    assert relay.port == port
    with connected(relay.url) as client:
        assert client.subscribe({}) == [event]


def test_going_offline_breaks_connections_in_their_handshake(relay):
    with socket.create_connection(("127.0.0.1", relay.port), timeout=60) as idle:
        with connected(relay.url):
            relay.go_offline()

        assert idle.recv(1) == b""


def test_dropped_clients_can_reconnect(relay):
    with connected(relay.url) as client:
        relay.drop_connections()

        with pytest.raises(ConnectionClosed):
            client.receive()
    with connected(relay.url) as client:
        assert client.publish(note()) == (True, "")
    assert relay.accepted == 2


def test_stopped_relay_starts_again_on_its_port_with_its_events():
    threads = threading.active_count()
    relay = SandboxRelay()
    relay.start()
    url = relay.url
    with connected(url) as client:
        client.publish(event := note())
        relay.fault("hold", times=1)
        client.send("EVENT", note("lost").to_dict())
        wait_until(lambda: relay.held == 1)

        relay.stop()

        with pytest.raises(ConnectionClosed):
            client.receive()
    assert relay.held == 0
    assert relay.stored() == [event]
    relay.stop()
    relay.start()
    try:
        assert relay.url == url
        with connected(url) as client:
            assert client.subscribe({}) == [event]
    finally:
        relay.stop()
    wait_until(lambda: threading.active_count() == threads)


def test_starting_on_a_taken_port_raises_oserror(relay):
    another = SandboxRelay(port=relay.port)

    with pytest.raises(OSError, match="in use"):
        another.start()

    another.stop()
    relay.go_offline()
    another.start()
    with pytest.raises(OSError, match="in use"):
        relay.go_online()
    another.stop()
    relay.go_online()


def test_relay_is_thread_safe(relay):
    def talk(number):
        with connected(relay.url) as client:
            for each in range(20):
                assert client.publish(note(f"{number}/{each}")) == (True, "")
                relay.fault("drop", kinds=[9])
                assert relay.count() > 0
            return len(client.subscribe({}))

    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(talk, range(8)))

    assert max(counts) == relay.count() == 160


def test_500_requests_and_replies_are_delivered_in_order(relay):
    """Replies refer to their requests; both go over two connections."""
    requests = [note(str(n), kind=23194, tags=[["p", "wallet"]]) for n in range(500)]
    replies = [
        note(kind=23195, tags=[["e", request.id], ["p", "client"]])
        for request in requests
    ]
    with connected(relay.url) as client, connected(relay.url) as wallet:
        wallet.subscribe({"kinds": [23194], "#p": ["wallet"]})
        for start in range(0, 500, 100):
            ids = [request.id for request in requests[start : start + 100]]
            client.subscribe({"kinds": [23195], "#e": ids}, name=str(start))

        for request in requests:
            client.wire.send(json.dumps(["EVENT", request.to_dict()]))
        assert [wallet.next_event() for _ in requests] == requests
        for reply in replies:
            wallet.wire.send(json.dumps(["EVENT", reply.to_dict()]))

        answers = [client.receive() for _ in range(1_000)]
        assert [answer[2]["id"] for answer in answers if answer[0] == "EVENT"] == [
            reply.id for reply in replies
        ]
        assert relay.count(23194) == relay.count(23195) == 500
        assert {message[0] for message in wallet.receive_all()} == {"OK"}
