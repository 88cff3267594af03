"""Answers of foreign relays that differ from NIP-01 and NIP-42.

https://github.com/nostr-protocol/nips/blob/master/42.md
"""

import json

import pytest
from websockets.sync.client import connect

from caravel.nostr.events import sign_event
from caravel.nostr.keys import generate_secret_key
from caravel.tests.support.waiting import LIMIT
from interop.tests.support.relays import foreign_relay

pytestmark = pytest.mark.interop

KEY = generate_secret_key()


def ask(socket, *message):
    socket.send(json.dumps(message))


def answer(socket):
    return json.loads(socket.recv(LIMIT))


def test_nostr_relay_says_neither_what_it_refuses_nor_that_it_accepts_a_key():
    """The reason why it has no passing case with authentication.

    nostr_relay/web.py, start_client(): an AUTH is answered only if it fails.
    """
    event = sign_event(KEY, kind=1, content="", tags=[])

    with (
        foreign_relay("python_relay.py", "both") as relay,
        connect(relay.url, proxy=None) as socket,
    ):
        verb, challenge = answer(socket)
        ask(socket, "REQ", "ours", {"kinds": [1]})
        to_request = answer(socket)
        tags = [["relay", relay.url], ["challenge", challenge]]
        ask(
            socket, "AUTH", sign_event(KEY, kind=22242, content="", tags=tags).to_dict()
        )
        ask(socket, "REQ", "ours", {"kinds": [1], "authors": [event.pubkey]})
        after_auth = answer(socket)

    assert verb == "AUTH"
    assert to_request == ["NOTICE", "restricted: permission denied"]
    assert after_auth == ["EOSE", "ours"]


def test_nostr_relay_refuses_an_event_without_its_id():
    event = sign_event(KEY, kind=1, content="", tags=[])

    with (
        foreign_relay("python_relay.py", "both") as relay,
        connect(relay.url, proxy=None) as socket,
    ):
        answer(socket)
        ask(socket, "EVENT", event.to_dict())
        to_event = answer(socket)

    assert to_event == ["OK", "", False, "restricted: permission denied"]
