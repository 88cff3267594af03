"""Subscriptions come back with the connection, for whatever reason it is opened."""

import pytest

from caravel.nostr.events import Event, sign_event
from caravel.nostr.relays import connection as connection_module
from caravel.tests.support.relay_requests import PEER_KEY, endpoint_of
from caravel.tests.support.waiting import LIMIT, wait_until

NOTES = [{"kinds": [1]}]


@pytest.fixture(autouse=True)
def long_outage(monkeypatch):
    """Let the next attempt to reconnect be an hour away."""
    monkeypatch.setattr(connection_module, "_MIN_DELAY", 3_600.0)
    monkeypatch.setattr(connection_module, "_MAX_DELAY", 3_600.0)


def assert_heard(relay, pool, peer_pool, received):
    """Send something over the relay, and expect that the listener is back."""
    endpoints, note = [endpoint_of(relay)], sign_event(PEER_KEY, kind=1, content="hi")
    pool.fetch(endpoints, [{"kinds": [2]}], timeout=LIMIT)

    peer_pool.publish(endpoints, note, timeout=LIMIT)

    wait_until(lambda: received == [note])


def test_listener_is_back_once_anything_is_sent_after_an_outage(relay, pool, peer_pool):
    received: list[Event] = []
    pool.listen([endpoint_of(relay)], NOTES, received.append)
    wait_until(lambda: relay.subscriptions == 1)

    relay.go_offline()
    relay.go_online()

    assert_heard(relay, pool, peer_pool, received)


def test_listener_of_relay_that_was_down_starts_once_anything_is_sent(
    relay, pool, peer_pool
):
    relay.go_offline()
    received: list[Event] = []
    pool.listen([endpoint_of(relay)], NOTES, received.append)
    wait_until(
        lambda: any(
            connection._restoring
            for connection in list(pool._connections.by_endpoint.values())
        ),
        "the failure of the first attempt",
    )

    relay.go_online()

    assert_heard(relay, pool, peer_pool, received)
