"""The relay pool over real sockets, with the sandbox's relay."""

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import chain
from unittest.mock import patch

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import sign_event
from caravel.nostr.relays.dial import Endpoint, PrivateAddress, RelayUnreachable
from caravel.nostr.relays.exchange import Sending, exchange
from caravel.nostr.relays.limits import OURS
from caravel.nostr.relays.pool import NoReply, RelayPool, close_pool, get_pool
from caravel.tests.support.relay_requests import (
    CLIENT_KEY,
    PEER_KEY,
    REPLY,
    REQUEST,
    closed_ports,
    endpoint_of,
    new_request,
    reply_to,
    send_in_vain,
    send_request,
    start_replying,
)
from caravel.tests.support.waiting import LIMIT, join, result_of, wait_until
from sandbox.nostr import running_relay


def unreachable():
    return Endpoint(f"ws://127.0.0.1:{closed_ports(1)[0]}", private_allowed=True)


def test_request_returns_reply(relay, pool, peer_pool):
    start_replying(peer_pool, relay)

    assert send_request(pool, [relay], event=new_request("hé")).content == "re hé"


def test_events_of_other_author_kind_or_request_are_not_replies(relay, pool, peer_pool):
    other = generate_secret_key()
    start_replying(
        peer_pool,
        relay,
        lambda event: [
            reply_to(event, secret=other),
            reply_to(event, names="00" * 32),
            reply_to(event, kind=23196),
            sign_event(PEER_KEY, kind=REPLY, content="the one", tags=[("e", event.id)]),
        ],
    )

    assert send_request(pool, [relay]).content == "the one"


def test_event_with_forged_signature_is_not_a_reply(relay, pool, peer_pool):
    relay.fault("garble", on="delivery", kinds={REPLY}, times=1)
    start_replying(
        peer_pool,
        relay,
        lambda event: [reply_to(event), reply_to(event, names=event.id)],
    )

    send_in_vain(
        lambda timeout: send_request(pool, [relay], timeout=timeout),
        timeout=0.5,
        until=lambda: relay.count(REPLY),
    )


def test_reply_arrives_over_one_relay_when_other_is_unreachable(relay, pool, peer_pool):
    start_replying(peer_pool, relay)

    reply = pool.request(
        [unreachable(), endpoint_of(relay)],
        new_request(),
        author=pubkey_of(PEER_KEY),
        kind=REPLY,
        timeout=LIMIT,
    )

    assert reply.content == "re ?"


def test_reply_is_not_delayed_when_one_of_two_relays_never_responds(
    relay, pool, peer_pool
):
    with running_relay() as mute:
        mute.fault("mute", on="req")
        mute.fault("mute", on="event")
        start_replying(peer_pool, relay)

        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(
                send_request, pool, [mute, relay], timeout=2 * LIMIT
            )
            assert result_of(future, "the reply").content == "re ?"


def test_relay_unreachable_is_raised_without_connection(pool):
    with pytest.raises(RelayUnreachable):
        pool.request(
            [unreachable()],
            new_request(),
            author=pubkey_of(PEER_KEY),
            kind=REPLY,
            timeout=LIMIT,
        )


def test_expired_event_is_not_sent(relay, pool):
    """The process may be suspended between signing and sending."""
    past = str(int(time.time()) - 1)
    late = sign_event(
        CLIENT_KEY, kind=REQUEST, content="?", tags=[("expiration", past)]
    )

    with pytest.raises(RelayUnreachable, match="expired"):
        send_request(pool, [relay], event=late)

    assert relay.count(REQUEST) == 0


def test_no_reply_is_raised_after_timeout(relay, pool):
    send_in_vain(
        lambda timeout: send_request(pool, [relay], timeout=timeout), timeout=0.3
    )

    assert relay.count(REQUEST) == 1


def test_no_reply_is_raised_when_relay_rejects_event_which_it_may_have_forwarded(
    relay, pool
):
    relay.fault("reject", on="event")

    send_in_vain(
        lambda timeout: send_request(pool, [relay], timeout=timeout), timeout=0.3
    )


def test_no_reply_is_raised_when_connection_is_lost_after_sending(relay, pool):
    relay.fault("disconnect", on="event", kinds={REQUEST}, times=1)

    send_in_vain(
        lambda timeout: send_request(pool, [relay], timeout=timeout), timeout=0.5
    )


def test_reply_arrives_after_reconnecting(relay, pool, peer_pool):
    relay.fault("hold", on="event", kinds={REPLY})
    start_replying(peer_pool, relay)
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(send_request, pool, [relay])
        wait_until(lambda: relay.held == 1)
        relay.drop_connections()
        wait_until(lambda: relay.subscriptions == 2)
        relay.release()

        assert result_of(future, "the reply").content == "re ?"
    assert relay.count(REQUEST) == 1


def test_subscription_closed_by_relay_is_requested_again(relay, pool, peer_pool):
    start_replying(peer_pool, relay)
    relay.fault("closed", on="req", times=1)
    relay.fault("delay", on="event", kinds={REPLY}, seconds=1.5)

    assert send_request(pool, [relay]).content == "re ?"


def test_200_requests_share_one_connection(relay, pool, peer_pool):
    start_replying(peer_pool, relay)
    before = relay.accepted
    with ThreadPoolExecutor(50) as executor:
        replies = list(
            executor.map(
                lambda n: send_request(pool, [relay], event=new_request(str(n))),
                range(200),
            )
        )

    assert [reply.content for reply in replies] == [f"re {n}" for n in range(200)]
    assert relay.accepted - before == 1
    wait_until(
        lambda: relay.subscriptions == 1
    )  # the peer's; those of `pool` were closed


def test_request_all_returns_outcome_of_each_request(relay, pool, peer_pool):
    start_replying(
        peer_pool, relay, lambda e: [reply_to(e)] if e.content != "1" else []
    )
    expected = ["re 0", NoReply, "re 2"]

    for timeout in (1, 10, LIMIT):  # the first suffices unless the machine is busy
        replies = pool.request_all(
            [endpoint_of(relay)],
            [new_request(str(n)) for n in range(3)],
            author=pubkey_of(PEER_KEY),
            kind=REPLY,
            timeout=timeout,
        )
        outcomes = [getattr(reply, "content", type(reply)) for reply in replies]
        if outcomes == expected:
            break

    assert outcomes == expected


def test_idle_connection_is_closed_and_reopened_on_demand(relay, peer_pool):
    start_replying(peer_pool, relay)
    with closing(RelayPool(replace(OURS, idle_timeout=0.5))) as pool:
        send_request(pool, [relay])
        wait_until(lambda: relay.connections == 1)

        assert send_request(pool, [relay]).content == "re ?"


def test_fetch_is_complete_only_if_all_relays_sent_eose(relay, pool):
    event = sign_event(CLIENT_KEY, kind=13194, content="pay_invoice")
    assert pool.publish([endpoint_of(relay)], event, timeout=LIMIT) == [
        endpoint_of(relay).host
    ]
    own_events = [{"kinds": [13194], "authors": [pubkey_of(CLIENT_KEY)]}]

    result = pool.fetch([endpoint_of(relay)], own_events, timeout=LIMIT)
    assert (result.events, result.complete) == ((event,), True)
    result = pool.fetch([endpoint_of(relay), unreachable()], own_events, timeout=LIMIT)
    assert (result.events, result.complete) == ((event,), False)
    relay.fault("mute", on="req")
    result = pool.fetch([endpoint_of(relay)], own_events, timeout=0.3)
    assert (result.events, result.complete) == ((), False)
    with pytest.raises(RelayUnreachable):
        pool.fetch([unreachable()], own_events, timeout=LIMIT)


def test_listener_receives_events_after_relay_was_offline(relay, pool, peer_pool):
    received = []
    pool.listen(
        [endpoint_of(relay)],
        [{"kinds": [1]}],
        lambda event: received.append(event.content),
    )
    wait_until(lambda: relay.subscriptions == 1)
    relay.go_offline()
    relay.go_online()
    wait_until(lambda: relay.subscriptions == 1)

    peer_pool.publish(
        [endpoint_of(relay)], sign_event(PEER_KEY, kind=1, content="hi"), timeout=60
    )

    wait_until(lambda: received == ["hi"])


def test_listener_starts_when_relay_comes_online(pool, peer_pool, monkeypatch):
    with running_relay() as relay:
        relay.go_offline()
        received = []
        pool.listen(
            [endpoint_of(relay)], [{"kinds": [1]}], lambda e: received.append(e.content)
        )
        wait_until(
            lambda: any(
                c._opening.done() for c in pool._connections.by_endpoint.values()
            ),
            "the first attempt to connect",
        )
        relay.go_online()
        wait_until(lambda: relay.subscriptions == 1)
        peer_pool.publish(
            [endpoint_of(relay)], sign_event(PEER_KEY, kind=1, content="hi"), timeout=60
        )
        wait_until(lambda: received == ["hi"])


# --- addresses


@pytest.mark.parametrize(
    "url",
    [
        "ws://127.0.0.1:{port}",
        "ws://localhost:{port}",
        "ws://[::ffff:127.0.0.1]:{port}",
        "ws://127.1:{port}",
        "ws://2130706433:{port}",
    ],
)
def test_private_address_is_refused(relay, pool, url):
    endpoint = Endpoint(url.format(port=relay.url.rsplit(":", 1)[1]))

    with pytest.raises(PrivateAddress):
        pool.request(
            [endpoint],
            new_request(),
            author=pubkey_of(PEER_KEY),
            kind=REPLY,
            timeout=LIMIT,
        )

    assert relay.accepted == 0


def test_name_is_resolved_and_checked_for_each_connection(relay, pool, monkeypatch):
    """DNS rebinding: the name can resolve to another address each time."""
    resolved = []

    def resolve(host, port, *args, **kwargs):
        resolved.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    endpoint = Endpoint(f"ws://rebinding.example:{relay.url.rsplit(':', 1)[1]}")

    for _ in range(2):
        with pytest.raises(PrivateAddress):
            pool.fetch([endpoint], [{"kinds": [1]}], timeout=LIMIT)
    assert resolved == ["rebinding.example"] * 2
    assert relay.accepted == 0


def test_name_with_public_and_private_address_is_refused(pool, monkeypatch):
    infos = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))
        for address in ("1.1.1.1", "10.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: infos)

    with pytest.raises(PrivateAddress):
        pool.fetch([Endpoint("ws://two.example")], [{"kinds": [1]}], timeout=LIMIT)


@pytest.mark.parametrize("problem", [OSError("no such name"), None])
def test_error_does_not_tell_whether_an_internal_name_exists(
    pool, problem, monkeypatch
):
    def resolve(*args, **kwargs):
        if problem:
            raise problem
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    with pytest.raises(RelayUnreachable) as caught:
        pool.fetch([Endpoint("ws://db.corp.example")], [{"kinds": [1]}], timeout=LIMIT)

    error = caught.value
    assert (error.message, error.code, error.status) == (
        "The relay db.corp.example does not answer.",
        "relay-unreachable",
        503,
    )


def test_private_connection_is_not_shared_with_endpoint_that_disallows_it(relay, pool):
    pool.fetch([endpoint_of(relay)], [{"kinds": [1]}], timeout=LIMIT)

    with pytest.raises(PrivateAddress):
        pool.fetch([Endpoint(relay.url)], [{"kinds": [1]}], timeout=LIMIT)


def test_redirect_is_not_followed(relay, pool):
    with (
        redirecting_to(relay.url.replace("ws:", "http:")) as url,
        pytest.raises(RelayUnreachable),
    ):
        pool.fetch([Endpoint(url, private_allowed=True)], [{}], timeout=LIMIT)

    assert relay.accepted == 0


def test_proxy_variables_are_ignored(relay, pool, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_ports(1)[0]}")

    assert pool.fetch([endpoint_of(relay)], [{"kinds": [1]}], timeout=LIMIT).complete


@contextmanager
def redirecting_to(url):
    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", url)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Redirect)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"ws://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        join(thread)
        server.server_close()


# --- processes


def test_forked_child_creates_its_own_pool(relay, peer_pool):
    start_replying(peer_pool, relay)
    try:
        send_request(get_pool(), [relay])
        child = os.fork()
        if child == 0:
            signal.alarm(int(LIMIT))
            try:
                reply = send_request(
                    get_pool(), [relay], event=new_request("from the child")
                )
                os._exit(0 if reply.content == "re from the child" else 1)
            finally:
                os._exit(2)
        _, status = os.waitpid(child, 0)

        assert status == 0
        assert (
            send_request(get_pool(), [relay], event=new_request("again")).content
            == "re again"
        )
    finally:
        close_pool()


def test_call_from_pools_own_thread_raises(pool):
    failures = []

    def wait():
        try:
            pool.fetch([unreachable()], [{}], timeout=LIMIT)
        except RuntimeError as exc:
            failures.append(str(exc))

    pool._loop.call_soon_threadsafe(wait)

    wait_until(lambda: failures == ["The pool's own thread cannot wait for itself."])


def test_request_each_yields_replies_as_they_arrive(relay, pool, peer_pool):
    """One of three is not answered: the others do not wait for its timeout."""
    start_replying(
        peer_pool, relay, lambda e: [reply_to(e)] if e.content != "1" else []
    )
    sendings = [
        Sending(
            [endpoint_of(relay)],
            new_request(str(n)),
            author=pubkey_of(PEER_KEY),
            kind=REPLY,
        )
        for n in range(3)
    ]

    groups = list(pool.request_each(sendings, 10))

    *_, (last,) = groups
    assert last[0] == 1
    assert isinstance(last[1], NoReply)
    replies = {i: reply for group in groups[:-1] for i, reply in group}
    assert {i: reply.content for i, reply in replies.items()} == {0: "re 0", 2: "re 2"}


def test_request_each_to_an_unreachable_relay_returns_the_others(
    relay, pool, peer_pool
):
    start_replying(peer_pool, relay)
    sendings = [
        Sending([endpoint], new_request(), author=pubkey_of(PEER_KEY), kind=REPLY)
        for endpoint in (unreachable(), endpoint_of(relay))
    ]

    replies = dict(chain.from_iterable(pool.request_each(sendings, LIMIT)))

    assert isinstance(replies[0], RelayUnreachable)
    assert replies[1].content == "re ?"


def test_unexpected_error_of_one_exchange_ends_no_other(relay, pool, peer_pool):
    start_replying(peer_pool, relay)
    broken, sound = (
        Sending(
            [endpoint_of(relay)],
            new_request(content),
            author=pubkey_of(PEER_KEY),
            kind=REPLY,
        )
        for content in ("broken", "sound")
    )

    async def fail_for_broken(connections, sending, timeout):
        if sending is broken:
            raise RuntimeError("a bug")
        return await exchange(connections, sending, timeout)

    with patch("caravel.nostr.relays.pool.exchange", fail_for_broken):
        groups = pool.request_each([broken, sound], LIMIT)
        replies = dict(chain.from_iterable(groups))

    assert isinstance(replies[0], NoReply)
    assert replies[1].content == "re sound"
