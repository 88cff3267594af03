"""The relay's protocol: events, filters, subscriptions, malformed messages."""

import json
from itertools import count

import pytest
from websockets.exceptions import ConnectionClosed

from sandbox.common.nostr import Event, pubkey_of
from sandbox.nostr import RelaySettings, running_relay
from sandbox.tests.support.relay_client import ANN, BOB, connected, event_of, note

HEX = "ab" * 32


@pytest.mark.parametrize("kind", [1, 1059, 13194, 23194, 23195, 23196, 23197])
def test_event_of_any_kind_is_delivered_and_stored(relay, client, kind):
    with connected(relay.url) as reader:
        assert reader.subscribe({"kinds": [kind]}) == []
        event = note("über 💸\u2028\t\x00", kind=kind, tags=[["p", HEX], ["t"], []])

        assert client.publish(event) == (True, "")

        assert reader.next_event() == event
        assert reader.subscribe({"ids": [event.id]}) == [event]


def test_subscription_gets_stored_events_newest_first_then_new_ones(relay, client):
    old, new, middle = (note(created_at=at) for at in (100, 300, 200))
    for event in (old, new, middle):
        client.publish(event)

    assert client.subscribe({}) == [new, middle, old]

    client.send("EVENT", (event := note(created_at=1)).to_dict())
    assert client.next_event() == event


def test_events_of_the_same_second_are_sorted_by_id(client):
    events = [note(str(n), created_at=5) for n in range(9)]
    for event in events:
        client.publish(event)

    assert client.subscribe({}) == sorted(events, key=lambda event: event.id)


A1 = note("a1", key=ANN, created_at=100, tags=[["e", HEX], ["p", "x"], ["p", "y", "z"]])
A2 = note("a2", key=ANN, created_at=200, kind=7, tags=[["t", "sats"], ["E", HEX]])
A3 = note("a3", key=ANN, created_at=300, tags=[["e", "other"], ["p", "y"]])
B1 = note("b1", key=BOB, created_at=400, tags=[["e"], ["name", "y"], ["t", "zaps"]])
ANNS, BOBS = pubkey_of(ANN), pubkey_of(BOB)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([{}], [B1, A3, A2, A1]),
        ([{"ids": [A1.id, B1.id, HEX]}], [B1, A1]),
        ([{"ids": [A1.id], "kinds": [7]}], []),
        ([{"kinds": [7]}], [A2]),
        ([{"kinds": [1, 7, 40_000]}], [B1, A3, A2, A1]),
        ([{"authors": [ANNS]}], [A3, A2, A1]),
        ([{"authors": [ANNS], "kinds": [1]}], [A3, A1]),
        ([{"authors": [ANNS, BOBS], "kinds": list(range(2_000))}], [B1, A3, A2, A1]),
        ([{"since": 200}], [B1, A3, A2]),
        ([{"until": 200}], [A2, A1]),
        ([{"since": 201, "until": 399}], [A3]),
        ([{"limit": 2}], [B1, A3]),
        ([{"limit": 0}], []),
        ([{"#e": [HEX]}], [A1]),
        ([{"#E": [HEX]}], [A2]),
        ([{"#e": ["other", HEX]}], [A3, A1]),
        ([{"#p": ["y"]}], [A3, A1]),
        ([{"#p": ["y"], "#e": [HEX]}], [A1]),
        ([{"#p": ["z"]}], []),
        ([{"#t": ["sats", "zaps"], "authors": [BOBS]}], [B1]),
        ([{"#t": ["sats", "zaps"], "limit": 1}], [B1]),
        ([{"ids": []}], []),
        ([{"authors": []}], []),
        ([{"kinds": []}], []),
        ([{"#e": []}], []),
        ([{"search": "ignored", "kinds": [7]}], [A2]),
        ([{"kinds": [7]}, {"authors": [BOBS]}, {"ids": [A2.id]}], [B1, A2]),
        ([{"authors": [ANNS], "limit": 1}, {"kinds": [7], "limit": 1}], [A3, A2]),
    ],
)
def test_filters_select_stored_events(client, filters, expected):
    for event in (A1, B1, A3, A2):
        client.publish(event)

    assert client.subscribe(*filters) == expected


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([{}], [A1, A2, A3, B1]),
        ([{"ids": [A1.id, B1.id]}], [A1, B1]),
        ([{"kinds": [7]}], [A2]),
        ([{"authors": [ANNS]}], [A1, A2, A3]),
        ([{"authors": [ANNS], "kinds": [1]}], [A1, A3]),
        ([{"authors": [ANNS, BOBS], "kinds": list(range(2_000))}], [A1, A2, A3, B1]),
        ([{"since": 200, "until": 300}], [A2, A3]),
        ([{"limit": 0}], [A1, A2, A3, B1]),
        ([{"#e": [HEX]}], [A1]),
        ([{"#p": ["y", "x"]}], [A1, A3]),
        ([{"#p": ["y"], "#e": ["other"]}], [A3]),
        ([{"#e": []}], []),
        ([{"kinds": [7]}, {"authors": [ANNS]}, {"#t": ["sats"]}], [A1, A2, A3]),
    ],
)
def test_filters_select_new_events_each_delivered_once(client, filters, expected):
    assert client.subscribe(*filters) == []

    for event in (A1, A2, A3, B1):
        client.send("EVENT", event.to_dict())

    received = [event_of(m) for m in client.receive_all() if m[0] == "EVENT"]
    assert received == expected


def test_max_limit_caps_each_filter():
    with (
        running_relay(settings=RelaySettings(max_limit=2)) as relay,
        connected(relay.url) as client,
    ):
        for at in range(5):
            client.publish(note(created_at=at))

        assert [event.created_at for event in client.subscribe({"limit": 4})] == [4, 3]


def test_event_is_delivered_to_each_matching_subscription(client):
    client.subscribe({}, name="one")
    client.subscribe({"kinds": [1]}, name="two")

    client.send("EVENT", (event := note()).to_dict())

    copies = {message[1]: message for message in (client.receive(), client.receive())}
    assert event_of(copies["one"], "one") == event_of(copies["two"], "two") == event


def test_request_with_the_same_id_replaces_the_subscription(relay, client):
    client.subscribe({"kinds": [1]})
    client.subscribe({"kinds": [7]})

    client.publish(note(kind=1))
    client.send("EVENT", (event := note(kind=7)).to_dict())

    assert client.next_event() == event
    assert relay.subscriptions == 1
    assert relay.requests == 2


def test_closed_subscription_gets_no_events(relay, client):
    client.subscribe({}, name="one")
    client.subscribe({}, name="two")

    client.send("CLOSE", "one")
    client.send("CLOSE", "never opened")
    client.send("EVENT", (event := note()).to_dict())

    assert event_of(client.receive(), "two") == event
    assert client.receive()[0] == "OK"
    assert client.receive_all() == []
    assert relay.subscriptions == 1


def test_relay_can_close_all_subscriptions(relay, client):
    client.subscribe({}, name="one")
    client.subscribe({}, name="two")

    relay.end_subscriptions()

    assert [client.receive()[:2] for _ in range(2)] == [
        ["CLOSED", "one"],
        ["CLOSED", "two"],
    ]
    assert relay.subscriptions == 0
    assert client.publish(note()) == (True, "")


def test_subscription_above_the_limit_is_refused():
    with (
        running_relay(settings=RelaySettings(max_subscriptions=2)) as relay,
        connected(relay.url) as client,
        connected(relay.url) as another,
    ):
        client.subscribe({}, name="one")
        client.subscribe({}, name="two")

        client.send("REQ", "three", {})

        assert client.receive() == ["CLOSED", "three", "error: too many subscriptions"]
        client.subscribe({}, name="two")
        another.subscribe({}, name="three")
        client.send("CLOSE", "one")
        client.subscribe({}, name="three")


ODD = note("odd").to_dict()
INVALID_SIGNATURE = {**ODD, "sig": note("another").sig}
WRONG_ID = {**ODD, "id": HEX}


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (INVALID_SIGNATURE, "signature"),
        (WRONG_ID, "id"),
        ({**ODD, "content": "changed"}, "id"),
        ({**ODD, "sig": ODD["sig"].upper()}, "hex"),
        ({**ODD, "sig": " " + ODD["sig"]}, "hex"),
        ({**ODD, "tags": [["e", 1]]}, "not a Nostr event"),
        ({**ODD, "created_at": "now"}, "not a Nostr event"),
        ({"id": HEX}, "not a Nostr event"),
        (note(kind=65_536).to_dict(), "kind"),
        (note(kind=-1).to_dict(), "kind"),
        (note(created_at=-1).to_dict(), "created_at"),
        (note(created_at=2**63).to_dict(), "created_at"),
        (note(kind=22_242).to_dict(), "AUTH"),
    ],
)
def test_invalid_event_is_refused_with_its_id(relay, client, event, reason):
    client.send("EVENT", event)

    verb, event_id, accepted, text = client.receive()
    assert (verb, event_id, accepted) == ("OK", event["id"], False)
    assert text.startswith("invalid: ")
    assert reason in text
    assert relay.stored() == []


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        "[1]",
        '["HELLO"]',
        '["EVENT"]',
        '["EVENT", null]',
        '["EVENT", {}]',
        '["EVENT", {"id": 1}]',
        '["EVENT", {"id": "short"}]',
        '["REQ"]',
        '["REQ", 1, {}]',
        '["REQ", "", {}]',
        json.dumps(["REQ", "x" * 65, {}]),
        '["CLOSE"]',
        '["CLOSE", null]',
        '["AUTH", "x"]',
        "[" * 100_000,
        "1" * 5_000,
        b'["REQ", "sub", {}]',
    ],
)
def test_malformed_message_is_answered_with_a_notice(client, message):
    client.wire.send(message)

    verb, text = client.receive()
    assert verb == "NOTICE"
    assert text.startswith("invalid: ")
    assert client.publish(note()) == (True, "")


@pytest.mark.parametrize(
    "filters",
    [
        [],
        [1],
        [[]],
        [None],
        [{}, "x"],
        [{"ids": "x"}],
        [{"ids": ["short"]}],
        [{"authors": [HEX.upper()]}],
        [{"authors": [None]}],
        [{"kinds": 1}],
        [{"kinds": ["1"]}],
        [{"kinds": [True]}],
        [{"kinds": [70_000]}],
        [{"since": "1"}],
        [{"until": 1.5}],
        [{"limit": -1}],
        [{"#e": "x"}],
        [{"#e": [1]}],
        [{"#long": ["x"]}],
        [{"#": ["x"]}],
    ],
)
def test_invalid_filter_closes_the_subscription(relay, client, filters):
    client.subscribe({})

    client.send("REQ", "sub", *filters)

    verb, name, text = client.receive()
    assert (verb, name) == ("CLOSED", "sub")
    assert text.startswith("invalid: ")
    assert relay.subscriptions == 0


def test_subscription_id_is_returned_unchanged(client):
    for name in ("\ud800", 'q"uote', "ü\u2028", "x" * 64):
        client.subscribe({}, name=name)


def test_too_long_message_closes_the_connection_with_1009():
    settings = RelaySettings(max_message_bytes=2_000)
    with running_relay(settings=settings) as relay:
        with connected(relay.url) as client:
            assert client.publish(note("x" * 1_000)) == (True, "")

            client.wire.send("x" * 2_001)

            with pytest.raises(ConnectionClosed) as caught:
                client.receive()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1009
        with connected(relay.url) as client:
            assert client.publish(note()) == (True, "")


def test_message_of_half_a_mebibyte_is_accepted(client):
    assert client.publish(note("x" * 500_000)) == (True, "")
    assert len(client.subscribe({})[0].content) == 500_000


def test_received_events_are_listed_and_counted(relay, client):
    events = [note(kind=kind, key=key) for kind in (1, 7) for key in (ANN, BOB)]
    for event in (*events, events[0]):
        client.publish(event)
    client.send("EVENT", INVALID_SIGNATURE)
    client.receive()

    assert relay.events() == [*events, events[0]]
    assert relay.events(7) == events[2:]
    assert relay.events(author=BOBS) == [events[1], events[3]]
    assert relay.events(1, BOBS) == [events[1]]
    assert relay.count() == 5
    assert relay.count(1) == 3
    assert relay.count(4) == 0
    assert set(map(_id, relay.stored())) == set(map(_id, events))


def _id(event: Event) -> str:
    return event.id


def test_only_the_newest_received_events_are_recorded():
    with (
        running_relay(settings=RelaySettings(max_received=2)) as relay,
        connected(relay.url) as client,
    ):
        events = [note(str(n)) for n in range(4)]
        for event in events:
            client.publish(event)

        assert relay.events() == events[2:]
        assert relay.count() == 4


def test_filters_select_the_same_events_as_a_plain_comparison(client):
    """Many filters select the same of many events as a plain comparison."""
    number = count()
    events = [
        note(kind=kind, key=key, created_at=next(number), tags=[[name, value]])
        for kind in (1, 7, 23195)
        for key in (ANN, BOB)
        for name in ("e", "p")
        for value in ("x", "y")
    ]
    for event in events:
        client.publish(event)

    for kinds in (None, [1], [7, 23195]):
        for authors in (None, [ANNS], [ANNS, BOBS]):
            for name, value in (("e", None), ("e", ["x"]), ("p", ["x", "y"])):
                conditions = {"kinds": kinds, "authors": authors, f"#{name}": value}
                filter = {
                    key: condition
                    for key, condition in conditions.items()
                    if condition is not None
                }
                assert client.subscribe(filter) == [
                    event
                    for event in reversed(events)
                    if (kinds is None or event.kind in kinds)
                    and (authors is None or event.pubkey in authors)
                    and (value is None or set(event.values(name)) & set(value))
                ]
