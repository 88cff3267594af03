"""The relay survives arbitrary input."""

import json
import logging
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravel.tests.support import search
from sandbox.nostr import RelaySettings, running_relay
from sandbox.tests.support.relay_client import connected, note

NAMES = ["ids", "authors", "kinds", "since", "until", "limit", "#e", "#p", "#ee", "#"]
VALID = [note(str(n)).to_dict() for n in range(3)]
FIELDS = ["id", "pubkey", "created_at", "kind", "tags", "content", "sig"]
HEXES = st.sampled_from([VALID[0]["id"], VALID[0]["pubkey"], "ab" * 32, "AB" * 32])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | HEXES
    | st.sampled_from([2**63, 10**400, "\ud800", "\x00"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
filters = st.dictionaries(st.sampled_from(NAMES), values | st.lists(HEXES), max_size=3)
events = st.builds(
    lambda event, changes: {**event, **changes},
    st.sampled_from(VALID),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=2),
)
messages = (
    st.builds(lambda name, rest: ["REQ", name, *rest], values, st.lists(filters))
    | st.builds(lambda event: ["EVENT", event], events | values)
    | st.builds(lambda event: ["AUTH", event], events | values)
    | st.builds(lambda name: ["CLOSE", name], values)
    | values
)
VERBS = ("NOTICE", "OK", "EVENT", "EOSE", "CLOSED", "AUTH")
ANSWERS = (["EOSE", "are you there?"], ["CLOSED", "are you there?"])
texts = messages.map(json.dumps) | st.text() | st.binary()


@pytest.fixture(scope="module", params=[False, True])
def relay(request):
    options = RelaySettings(requires_auth=request.param, max_events=20)
    with running_relay(settings=options) as relay:
        yield relay


@pytest.mark.search
@given(strings=st.lists(texts, min_size=1, max_size=8))
@settings(
    max_examples=search.examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_relay_and_connection_survive_arbitrary_messages(relay, caplog, strings):
    with caplog.at_level(logging.WARNING), connected(relay.url) as client:
        for text in strings:
            client.wire.send(text)

        client.send("REQ", "are you there?", {"limit": 0})
        while (message := client.receive())[:2] not in ANSWERS:
            assert message[0] in VERBS

    assert caplog.records == []


@pytest.mark.search
@given(data=st.binary(min_size=1, max_size=200))
@settings(max_examples=search.examples(50), deadline=None)
def test_relay_survives_arbitrary_bytes_instead_of_a_handshake(relay, data):
    with socket.create_connection(("127.0.0.1", relay.port), timeout=60) as wire:
        wire.sendall(data)

    with connected(relay.url) as client:
        client.receive_all()
