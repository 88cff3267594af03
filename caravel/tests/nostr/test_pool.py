"""The hub over real sockets, against the sandbox's relay."""

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import sign_event
from caravel.nostr.relays import connection as connections_module
from caravel.nostr.relays.dial import Endpoint, PrivateAddress, RelayUnreachable
from caravel.nostr.relays.pool import NoReply, RelayPool, close_pool, get_pool
from sandbox.nostr import RelaySettings, running_relay

ME, THEM = generate_secret_key(), generate_secret_key()
QUESTION, ANSWER = 23194, 23195


@pytest.fixture
def relay():
    with running_relay() as relay:
        yield relay


@pytest.fixture
def mine():
    mine = RelayPool()
    yield mine
    mine.close()


@pytest.fixture
def theirs():
    theirs = RelayPool()
    yield theirs
    theirs.close()


def at(relay):
    return Endpoint(relay.url, private_allowed=True)


def question(content="?"):
    return sign_event(ME, kind=QUESTION, content=content, tags=[("p", pubkey_of(THEM))])


def answer_to(event, *, secret=THEM, kind=ANSWER, names=None):
    tags = [("e", names or event.id)]
    return sign_event(secret, kind=kind, content=f"re {event.content}", tags=tags)


def answering(theirs, relay, make=answer_to):
    """Let `theirs` answer every question that comes over a relay."""
    pool = ThreadPoolExecutor(1)

    def reply(event):
        for answer in make(event) if isinstance(make(event), list) else [make(event)]:
            pool.submit(theirs.publish, [at(relay)], answer, timeout=5)

    theirs.listen([at(relay)], [{"kinds": [QUESTION]}], reply)
    until(lambda: relay.subscriptions >= 1)


def ask(mine, relays, *, event=None, timeout=5.0, **options):
    endpoints = [at(relay) for relay in relays]
    author = pubkey_of(THEM)
    return mine.request(
        endpoints,
        event or question(),
        author=author,
        kind=ANSWER,
        timeout=timeout,
        **options,
    )


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def dead():
    return Endpoint(f"ws://127.0.0.1:{closed_port()}", private_allowed=True)


def test_an_answer_comes_back(relay, mine, theirs):
    answering(theirs, relay)

    assert ask(mine, [relay], event=question("hé")).content == "re hé"


def test_what_is_not_the_answer_is_not_taken_for_it(relay, mine, theirs):
    other = generate_secret_key()
    answering(
        theirs,
        relay,
        lambda event: [
            answer_to(event, secret=other),
            answer_to(event, names="00" * 32),
            answer_to(event, kind=23196),
            sign_event(THEM, kind=ANSWER, content="the one", tags=[("e", event.id)]),
        ],
    )

    assert ask(mine, [relay]).content == "the one"


def test_a_forged_signature_is_not_an_answer(relay, mine, theirs):
    relay.fault("garble", on="delivery", kinds={ANSWER}, times=1)
    answering(
        theirs,
        relay,
        lambda event: [answer_to(event), answer_to(event, names=event.id)],
    )

    with pytest.raises(NoReply):
        ask(mine, [relay], timeout=0.5)


def test_one_of_several_relays_is_enough(relay, mine, theirs):
    answering(theirs, relay)

    found = mine.request(
        [dead(), at(relay)],
        question(),
        author=pubkey_of(THEM),
        kind=ANSWER,
        timeout=5,
    )

    assert found.content == "re ?"


def test_one_mute_relay_delays_nothing(relay, mine, theirs):
    with running_relay() as mute:
        mute.fault("mute", on="req")
        mute.fault("mute", on="event")
        answering(theirs, relay)
        began = time.monotonic()

        assert ask(mine, [mute, relay]).content == "re ?"
        assert time.monotonic() - began < 3


def test_without_a_connection_nothing_was_sent(mine):
    with pytest.raises(RelayUnreachable):
        mine.request(
            [dead()], question(), author=pubkey_of(THEM), kind=ANSWER, timeout=3
        )


def test_what_has_expired_is_not_sent_any_more(relay, mine):
    """As after a pause of the whole process between signing and sending."""
    past = str(int(time.time()) - 1)
    late = sign_event(ME, kind=QUESTION, content="?", tags=[("expiration", past)])

    with pytest.raises(RelayUnreachable, match="expired"):
        ask(mine, [relay], event=late, timeout=3)

    assert relay.count(QUESTION) == 0


def test_silence_is_no_reply(relay, mine):
    with pytest.raises(NoReply):
        ask(mine, [relay], timeout=0.3)

    assert relay.count(QUESTION) == 1


def test_an_event_that_a_relay_refuses_may_have_been_passed_on(relay, mine):
    relay.fault("reject", on="event")

    with pytest.raises(NoReply):
        ask(mine, [relay], timeout=0.3)


def test_a_relay_that_takes_no_answer_of_ours_still_gets_the_event(relay, mine):
    relay.fault("disconnect", on="event", kinds={QUESTION}, times=1)

    with pytest.raises(NoReply):
        ask(mine, [relay], timeout=0.5)


def test_an_answer_that_comes_after_the_connection_was_lost(relay, mine, theirs):
    relay.fault("hold", on="event", kinds={ANSWER})
    answering(theirs, relay)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, mine, [relay], timeout=15)
        until(lambda: relay.held == 1)
        relay.drop_connections()
        until(lambda: relay.subscriptions == 2)
        relay.release()

        assert asked.result().content == "re ?"
    assert relay.count(QUESTION) == 1


def test_a_subscription_that_the_relay_closed_is_asked_for_again(relay, mine, theirs):
    answering(theirs, relay)
    relay.fault("closed", on="req", times=1)
    relay.fault("delay", on="event", kinds={ANSWER}, seconds=1.5)

    assert ask(mine, [relay], timeout=10).content == "re ?"


def test_all_requests_share_one_connection(relay, mine, theirs):
    answering(theirs, relay)
    before = relay.accepted
    with ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(lambda n: ask(mine, [relay], event=question(str(n))), range(200))
        )

    assert [answer.content for answer in answers] == [f"re {n}" for n in range(200)]
    assert relay.accepted - before == 1
    until(lambda: relay.subscriptions == 1)  # theirs: all of ours were closed


def test_many_at_once_each_have_their_own_outcome(relay, mine, theirs):
    answering(theirs, relay, lambda e: [answer_to(e)] if e.content != "1" else [])
    events = [question(str(n)) for n in range(3)]

    answers = mine.request_all(
        [at(relay)], events, author=pubkey_of(THEM), kind=ANSWER, timeout=1
    )

    assert [getattr(a, "content", type(a)) for a in answers] == [
        "re 0",
        NoReply,
        "re 2",
    ]


def test_a_connection_that_nobody_needs_is_closed(relay, mine, theirs, monkeypatch):
    monkeypatch.setattr(connections_module, "IDLE", 0.1)
    answering(theirs, relay)
    ask(mine, [relay])
    until(lambda: relay.connections == 1)

    assert ask(mine, [relay]).content == "re ?"


def test_a_relay_that_wants_to_know_who_asks(theirs, mine):
    with running_relay(settings=RelaySettings(requires_auth=True)) as relay:
        with pytest.raises(NoReply):
            ask(mine, [relay], timeout=2, secret_key=ME)

        assert relay.authenticated == {pubkey_of(ME)}
        assert len(relay.stored(QUESTION)) == 1


def test_stored_events_and_whether_these_are_all(relay, mine):
    event = sign_event(ME, kind=13194, content="pay_invoice")
    assert mine.publish([at(relay)], event, timeout=5) == [at(relay).host]
    mine_only = [{"kinds": [13194], "authors": [pubkey_of(ME)]}]

    found = mine.fetch([at(relay)], mine_only, timeout=5)
    assert (found.events, found.complete) == ((event,), True)
    found = mine.fetch([at(relay), dead()], mine_only, timeout=5)
    assert (found.events, found.complete) == ((event,), False)
    relay.fault("mute", on="req")
    found = mine.fetch([at(relay)], mine_only, timeout=0.3)
    assert (found.events, found.complete) == ((), False)
    with pytest.raises(RelayUnreachable):
        mine.fetch([dead()], mine_only, timeout=5)


def test_listening_survives_a_relay_that_goes_away(relay, mine, theirs):
    heard = []
    mine.listen(
        [at(relay)], [{"kinds": [1]}], lambda event: heard.append(event.content)
    )
    until(lambda: relay.subscriptions == 1)
    relay.go_offline()
    relay.go_online()
    until(lambda: relay.subscriptions == 1)

    theirs.publish([at(relay)], sign_event(THEM, kind=1, content="hi"), timeout=5)

    until(lambda: heard == ["hi"])


def test_listening_begins_when_the_relay_comes_up(mine, theirs, monkeypatch):
    with running_relay() as relay:
        relay.go_offline()
        heard = []
        mine.listen([at(relay)], [{"kinds": [1]}], lambda e: heard.append(e.content))
        time.sleep(0.2)
        relay.go_online()
        until(lambda: relay.subscriptions == 1)
        theirs.publish([at(relay)], sign_event(THEM, kind=1, content="hi"), timeout=5)
        until(lambda: heard == ["hi"])


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
def test_a_private_address_is_not_dialled(relay, mine, url):
    endpoint = Endpoint(url.format(port=relay.url.rsplit(":", 1)[1]))

    with pytest.raises(PrivateAddress):
        mine.request(
            [endpoint], question(), author=pubkey_of(THEM), kind=ANSWER, timeout=3
        )

    assert relay.accepted == 0


def test_a_name_is_judged_by_what_it_leads_to_each_time(relay, mine, monkeypatch):
    """A rebinding name: public when it was saved, private when it is dialled."""
    asked = []

    def resolve(host, port, *args, **kwargs):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    endpoint = Endpoint(f"ws://rebinding.example:{relay.url.rsplit(':', 1)[1]}")

    for _ in range(2):
        with pytest.raises(PrivateAddress):
            mine.fetch([endpoint], [{"kinds": [1]}], timeout=3)
    assert asked == ["rebinding.example"] * 2
    assert relay.accepted == 0


def test_one_private_address_among_public_ones_is_enough_to_refuse(mine, monkeypatch):
    answers = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))
        for address in ("1.1.1.1", "10.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: answers)

    with pytest.raises(PrivateAddress):
        mine.fetch([Endpoint("ws://two.example")], [{"kinds": [1]}], timeout=3)


def test_a_permission_is_not_shared_by_whoever_names_the_same_relay(relay, mine):
    mine.fetch([at(relay)], [{"kinds": [1]}], timeout=3)

    with pytest.raises(PrivateAddress):
        mine.fetch([Endpoint(relay.url)], [{"kinds": [1]}], timeout=3)


def test_redirects_are_not_followed(relay, mine):
    with (
        redirecting_to(relay.url.replace("ws:", "http:")) as url,
        pytest.raises(RelayUnreachable),
    ):
        mine.fetch([Endpoint(url, private_allowed=True)], [{}], timeout=3)

    assert relay.accepted == 0


def test_proxies_of_the_environment_are_not_used(relay, mine, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")

    assert mine.fetch([at(relay)], [{"kinds": [1]}], timeout=3).complete


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
        thread.join()
        server.server_close()


# --- processes


def test_a_forked_child_makes_a_hub_of_its_own(relay, theirs):
    answering(theirs, relay)
    try:
        ask(get_pool(), [relay])
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                found = ask(get_pool(), [relay], event=question("from the child"))
                os._exit(0 if found.content == "re from the child" else 1)
            finally:
                os._exit(2)
        _, status = os.waitpid(child, 0)

        assert status == 0
        assert ask(get_pool(), [relay], event=question("again")).content == "re again"
    finally:
        close_pool()


def test_its_own_thread_cannot_wait_for_it(mine):
    failures = []

    def wait():
        try:
            mine.fetch([dead()], [{}], timeout=1)
        except RuntimeError as exc:
            failures.append(str(exc))

    mine._loop.call_soon_threadsafe(wait)

    until(lambda: failures == ["The hub's own thread cannot wait for itself."])
