"""Reading a relay's events over a websocket, also of one that misbehaves."""

import json

import pytest
from django.db import transaction

from caravel.core.db.transactions import NetworkInTransaction
from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import parse_event
from caravel.tests.support.hostile_relay import http_server, scripted_relay
from relays.clients import events
from relays.clients.events import PAGE_SIZE, open_reader
from relays.exceptions import RelayUnreachable

KEY = generate_secret_key()
HOST = "birds.relays.example"


def event_of(number=1, **fields):
    return {
        "id": f"{number:064x}",
        "pubkey": "a" * 64,
        "created_at": 1_700_000_000 - number,
        "kind": 1,
        "tags": [],
        "content": "hi",
        "sig": "0" * 128,
        **fields,
    }


def authenticate(client):
    """Challenge a client as zooid does, and return its proof."""
    client.send("AUTH", "challenge")
    proof = client.receive_until("AUTH")[1]
    client.send("OK", proof["id"], True, "")
    return proof


def answering(*messages):
    """Return a script that answers the first request; "*" stands for its id."""

    def script(client):
        authenticate(client)
        name = client.receive_until("REQ")[1]
        for message in messages:
            client.send(*(name if part == "*" else part for part in message))
        client.receive_until("CLOSE")

    return script


@pytest.fixture
def serve(settings):
    """Return a function that fetches one page from a relay with this script."""

    def fetch(script, filter=None):
        with scripted_relay(script) as endpoint:
            settings.ZOOID_RELAYS_URL = endpoint.url.replace("ws:", "http:")
            with open_reader(HOST, KEY) as reader:
                return reader.fetch_page(filter or {})

    return fetch


@pytest.mark.parametrize(
    ("app_url", "proto", "url"),
    [
        ("https://caravel.example", "https", f"wss://{HOST}"),
        ("http://localhost:8000", "http", f"ws://{HOST}"),
    ],
    ids=["tls", "plain"],
)
def test_relay_is_asked_by_its_name_and_told_its_public_url(
    serve, settings, app_url, proto, url
):
    """khatru compares the tag with the URL that these headers make.

    `getBaseURL` and `nip42.ValidateAuthEvent` of https://github.com/fiatjaf/khatru
    """
    settings.APP_URL = app_url
    seen = {}

    def script(client):
        seen["headers"] = client.websocket.request.headers
        seen["proof"] = parse_event(authenticate(client))
        seen["request"] = client.receive_until("REQ")
        client.send("EOSE", seen["request"][1])
        client.receive_until("CLOSE")

    serve(script, {"until": 5})

    assert seen["headers"]["Host"] == HOST
    assert seen["headers"]["X-Forwarded-Proto"] == proto
    assert seen["proof"].pubkey == pubkey_of(KEY)
    assert seen["proof"].kind == 22242
    assert seen["proof"].values("relay") == [url]
    assert seen["proof"].values("challenge") == ["challenge"]
    assert seen["request"][2] == {"until": 5, "limit": PAGE_SIZE}


def test_page_has_the_events_as_they_came(serve):
    event = event_of(content='Grüße 🐦 "quoted"\n\ud800')

    page = serve(answering(["EVENT", "*", event], ["NOTICE", "hello"], ["EOSE", "*"]))

    (stored,) = page.events
    assert (stored.id, stored.created_at) == (event["id"], event["created_at"])
    assert json.loads(stored.line) == event
    assert stored.line.isascii() is False
    assert b"\n" not in stored.line
    assert not page.is_cut


def test_events_of_another_subscription_are_not_in_the_page(serve):
    page = serve(
        answering(["EVENT", "other", event_of(1)], ["EOSE", "other"], ["EOSE", "*"])
    )

    assert page.events == ()


@pytest.mark.parametrize(
    ("count", "is_cut", "is_full"),
    [(499, False, False), (500, True, False), (1000, True, True)],
    ids=str,
)
def test_page_that_may_have_hidden_events_is_cut(serve, count, is_cut, is_full):
    sent = [["EVENT", "*", event_of(number)] for number in range(count)]

    page = serve(answering(*sent, ["EOSE", "*"]))

    assert len(page.events) == count
    assert (page.is_cut, page.is_full) == (is_cut, is_full)


def test_page_of_too_many_bytes_is_broken_off(serve, monkeypatch):
    monkeypatch.setattr(events, "MAX_PAGE_BYTES", 1_000)
    sent = [["EVENT", "*", event_of(number)] for number in range(100)]

    page = serve(answering(*sent, ["EOSE", "*"]))

    assert 0 < len(page.events) < 10
    assert page.is_cut
    assert page.is_full


def refuse_key(client):
    client.send("AUTH", "challenge")
    client.send("OK", client.receive_until("AUTH")[1]["id"], False, "<b>no</b>")


def close_after_auth(client):
    authenticate(client)
    client.websocket.close()


def send_garbage(client):
    authenticate(client)
    client.websocket.send("[" * 100_000)


@pytest.mark.parametrize(
    "filter",
    [{"until": 1_699_999_998}, {"since": 1_700_000_000}],
    ids=["newer", "older"],
)
def test_event_outside_of_the_times_asked_for_is_not_taken(serve, filter):
    """A relay that ignores `until` would be read in a circle."""
    with pytest.raises(RelayUnreachable):
        serve(answering(["EVENT", "*", event_of()], ["EOSE", "*"]), filter)


def test_page_ends_with_the_thousandth_event_however_many_are_sent(serve):
    sent = [["EVENT", "*", event_of(number)] for number in range(PAGE_SIZE + 200)]

    page = serve(answering(*sent, ["EOSE", "*"]))

    assert len(page.events) == PAGE_SIZE


def test_connection_that_has_had_its_time_reads_no_further_page(serve, monkeypatch):
    monkeypatch.setattr(events, "_LIFETIME", 0.0)

    with pytest.raises(RelayUnreachable):
        serve(lambda client: [authenticate(client), client.receive_until("REQ")])


BAD = {
    "refuses-key": refuse_key,
    "refuses-request": answering(["CLOSED", "*", "restricted: <b>no</b>"]),
    "closes": close_after_auth,
    "challenge-is-a-number": lambda client: client.send("AUTH", 5),
    "challenge-is-long": lambda client: client.send("AUTH", "x" * 1_001),
    "garbage": send_garbage,
    "no-list": answering({}),
    "id-is-short": answering(["EVENT", "*", event_of(id="a")]),
    "time-is-a-text": answering(["EVENT", "*", event_of(created_at="5")]),
    "time-is-too-large": answering(["EVENT", "*", event_of(created_at=2**63)]),
    "kind-is-too-large": answering(["EVENT", "*", event_of(kind=65_536)]),
    "event-is-null": answering(["EVENT", "*", None]),
}


@pytest.mark.parametrize("script", BAD.values(), ids=BAD)
def test_bad_relay_is_unreachable_and_its_text_not_repeated(serve, script):
    with pytest.raises(RelayUnreachable) as caught:
        serve(script)

    assert "<b>" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_silent_relay_is_unreachable(serve, monkeypatch):
    monkeypatch.setattr(events, "_TIMEOUT", 0.2)

    with pytest.raises(RelayUnreachable):
        serve(lambda client: client.receive())


def test_name_that_zooid_does_not_serve_is_unreachable(settings):
    with http_server(
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    ) as endpoint:
        settings.ZOOID_RELAYS_URL = endpoint.url.replace("ws:", "http:")

        with pytest.raises(RelayUnreachable), open_reader(HOST, KEY):
            pass


def test_closed_port_is_unreachable(settings):
    settings.ZOOID_RELAYS_URL = "http://127.0.0.1:1"

    with pytest.raises(RelayUnreachable), open_reader(HOST, KEY):
        pass


@pytest.mark.django_db(transaction=True)
def test_relay_is_not_read_inside_a_transaction():
    with (
        transaction.atomic(),
        pytest.raises(NetworkInTransaction),
        open_reader(HOST, KEY),
    ):
        pass
