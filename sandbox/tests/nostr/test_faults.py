"""The relay's faults for events, requests and deliveries."""

import json

import pytest
from websockets.exceptions import ConnectionClosed

from caravel.tests.support.waiting import LIMIT, wait_until
from sandbox.common.fields import BadField
from sandbox.common.nostr import InvalidEvent, pubkey_of
from sandbox.nostr import RelaySettings, running_relay
from sandbox.tests.support.relay_client import (
    ANN,
    BOB,
    connected,
    event_of,
    note,
)

# Longer than any test waits: such a delay never ends by itself.
LONG = 10 * LIMIT


@pytest.fixture
def writer(relay):
    """A client without subscriptions."""
    with connected(relay.url) as client:
        yield client


@pytest.fixture
def reader(relay):
    """A client that subscribes to all events."""
    with connected(relay.url) as client:
        client.subscribe({})
        yield client


def test_dropped_event_is_answered_ok_but_not_stored(relay, client, reader):
    relay.fault("drop")
    lost = note("lost")

    assert client.publish(lost) == (True, "")

    assert reader.receive_all() == []
    assert relay.stored() == []
    assert relay.events() == [lost]


def test_delayed_event_is_processed_later(relay, client, reader):
    fault = relay.fault("delay", seconds=0.05)
    event = note("late")

    client.send("EVENT", event.to_dict())

    wait_until(lambda: relay.hits(fault) == 1)
    assert client.receive() == ["OK", event.id, True, ""]
    assert reader.next_event() == event


def test_delay_does_not_affect_other_messages(relay, client, reader):
    relay.fault("delay", seconds=LONG, kinds=[7])
    late, soon = note("late", kind=7), note("soon")

    client.send("EVENT", late.to_dict())
    client.send("EVENT", soon.to_dict())

    assert client.receive_all() == [["OK", soon.id, True, ""]]
    assert [event_of(message) for message in reader.receive_all()] == [soon]
    relay.clear_faults()
    assert client.receive() == ["OK", late.id, True, ""]
    assert reader.next_event() == late


def test_delay_after_processing_affects_only_the_answer(relay, client, reader):
    relay.fault("delay", when="after", seconds=LONG)
    event = note()

    client.send("EVENT", event.to_dict())

    assert client.receive_all() == []
    assert reader.next_event() == event
    relay.clear_faults()
    assert client.receive() == ["OK", event.id, True, ""]


def test_held_events_are_processed_when_released(relay, client, reader):
    relay.fault("hold", times=2)
    first, second, third = note("1"), note("2"), note("3")

    for event in (first, second, third):
        client.send("EVENT", event.to_dict())

    assert client.receive() == ["OK", third.id, True, ""]
    assert relay.held == 2
    assert relay.release() == 2
    assert [client.receive()[1] for _ in range(2)] == [first.id, second.id]
    assert [reader.next_event() for _ in range(3)] == [third, first, second]
    assert relay.held == 0


def test_held_event_is_stored_even_if_its_sender_disconnected(relay, reader):
    relay.fault("hold")
    event = note()

    with connected(relay.url) as client:
        client.send("EVENT", event.to_dict())
        wait_until(lambda: relay.held == 1)
    wait_until(lambda: relay.connections == 1)
    relay.release()

    assert reader.next_event() == event


@pytest.mark.parametrize(("when", "processed"), [("before", 0), ("after", 1)])
def test_muted_event_is_not_answered(relay, client, reader, when, processed):
    relay.fault("mute", when=when)

    client.send("EVENT", note().to_dict())

    assert client.receive_all() == []
    assert len(reader.receive_all()) == processed
    assert len(relay.stored()) == processed


@pytest.mark.parametrize(("when", "processed"), [("before", 0), ("after", 1)])
def test_rejected_event_is_answered_with_a_reason(
    relay, client, reader, when, processed
):
    relay.fault("reject", when=when)

    accepted, text = client.publish(note())

    assert not accepted
    assert text.startswith("blocked: ")
    assert len(reader.receive_all()) == processed
    assert len(relay.stored()) == processed


@pytest.mark.parametrize(("when", "processed"), [("before", 0), ("after", 1)])
def test_connection_breaks_instead_of_an_answer(relay, client, reader, when, processed):
    relay.fault("disconnect", when=when, times=1)

    client.send("EVENT", note().to_dict())

    with pytest.raises(ConnectionClosed) as caught:
        client.receive()
    assert caught.value.rcvd is None
    assert len(reader.receive_all()) == processed
    assert len(relay.stored()) == processed
    assert relay.connections == 1


def test_garbled_answer_is_not_json(relay, client, reader):
    relay.fault("garble", times=1)
    event = note()

    client.send("EVENT", event.to_dict())

    with pytest.raises(json.JSONDecodeError):
        client.receive()
    assert reader.next_event() == event


def test_dropped_request_returns_no_events_and_opens_no_subscription(
    relay, client, writer
):
    client.publish(note("stored"))
    relay.fault("drop", on="req")

    assert client.subscribe({}) == []

    writer.publish(note("new"))
    assert client.receive_all() == []


def test_delayed_and_held_requests_open_their_subscription_later(relay, client):
    client.publish(stored := note("stored"))
    relay.fault("delay", on="req", seconds=LONG, times=1)
    relay.fault("hold", on="req", times=1)

    client.send("REQ", "delayed", {})
    client.send("REQ", "held", {})

    assert client.receive_all() == []
    assert relay.subscriptions == 0
    relay.release()
    assert event_of(client.receive(), "held") == stored
    assert client.receive() == ["EOSE", "held"]
    relay.clear_faults()
    assert event_of(client.receive(), "delayed") == stored
    assert client.receive() == ["EOSE", "delayed"]
    assert relay.subscriptions == 2


def test_held_request_opens_nothing_if_its_client_disconnected(relay):
    relay.fault("hold", on="req")

    with connected(relay.url) as client:
        client.send("REQ", "sub", {})
        wait_until(lambda: relay.held == 1)
    wait_until(lambda: relay.connections == 0)
    relay.release()

    assert relay.subscriptions == 0


def test_two_held_requests_with_one_id_open_one_subscription(relay, client):
    relay.fault("hold", on="req")
    client.send("REQ", "sub", {"kinds": [1]})
    client.send("REQ", "sub", {"kinds": [7]})
    assert client.receive_all() == []

    relay.release()

    assert [client.receive(), client.receive()] == [["EOSE", "sub"], ["EOSE", "sub"]]
    assert relay.subscriptions == 1


def test_messages_after_a_disconnect_fault_are_not_processed(relay, client):
    relay.fault("disconnect", times=1)

    # In one piece: the relay receives all of them before the first one disconnects.
    for number in range(10):
        text = json.dumps(["EVENT", note(str(number)).to_dict()])
        client.wire.protocol.send_text(text.encode())
    client.wire.socket.sendall(b"".join(client.wire.protocol.data_to_send()))

    with pytest.raises(ConnectionClosed):
        client.receive()

    assert relay.count() == 1


def test_muted_request_is_ignored(relay, client):
    relay.fault("mute", on="req")

    client.send("REQ", "sub", {})

    assert client.receive_all() == []
    assert relay.subscriptions == 0


def test_request_muted_after_processing_gets_no_eose(relay, client, writer):
    client.publish(stored := note("stored"))
    relay.fault("mute", on="req", when="after")

    client.send("REQ", "sub", {})

    assert [event_of(message) for message in client.receive_all()] == [stored]
    writer.publish(new := note("new"))
    assert client.next_event() == new


def test_refused_request_is_answered_with_closed(relay, client, writer):
    client.subscribe({})
    relay.fault("closed", on="req")

    client.send("REQ", "sub", {})

    verb, name, text = client.receive()
    assert (verb, name) == ("CLOSED", "sub")
    assert text.startswith("blocked: ")
    assert relay.subscriptions == 0
    writer.publish(note())
    assert client.receive_all() == []


def test_request_can_be_answered_garbled_or_break_the_connection(relay, client):
    relay.fault("garble", on="req", times=1)
    relay.fault("disconnect", on="req", times=1)

    client.send("REQ", "sub", {})
    with pytest.raises(json.JSONDecodeError):
        client.receive()
    client.send("REQ", "sub", {})
    with pytest.raises(ConnectionClosed):
        client.receive()


def test_dropped_delivery_is_lost_for_one_subscription_only(relay, client):
    client.subscribe({}, name="one")
    client.subscribe({}, name="two")
    relay.fault("drop", on="delivery", times=1)
    event = note()

    client.send("EVENT", event.to_dict())

    assert event_of(client.receive(), "two") == event
    assert client.receive() == ["OK", event.id, True, ""]
    assert client.receive_all() == []
    assert client.subscribe({}) == [event]


def test_held_delivery_is_overtaken_by_the_next_one(relay, client, reader):
    relay.fault("hold", on="delivery", times=1)
    first, second = note("first"), note("second")

    client.publish(first)
    client.publish(second)

    assert [event_of(message) for message in reader.receive_all()] == [second]
    assert relay.held == 1
    relay.release()
    assert reader.next_event() == first


def test_delayed_delivery_arrives_later(relay, client, reader):
    fault = relay.fault("delay", on="delivery", seconds=0.05)

    client.publish(event := note())

    assert relay.hits(fault) == 1
    assert reader.next_event() == event


def test_held_delivery_to_a_closed_subscription_is_lost(relay, client, reader):
    relay.fault("hold", on="delivery")
    client.publish(note())
    reader.send("CLOSE", "sub")
    reader.receive_all()

    relay.release()

    assert reader.receive_all() == []


def test_duplicated_delivery_arrives_twice(relay, client, reader):
    relay.fault("duplicate", on="delivery")

    client.publish(event := note())

    assert [event_of(message) for message in reader.receive_all()] == [event, event]


def test_garbled_delivery_is_not_json(relay, client, reader):
    relay.fault("garble", on="delivery")

    client.publish(note())

    with pytest.raises(json.JSONDecodeError):
        reader.receive()


def test_forged_delivery_has_an_invalid_signature(relay, client, reader):
    relay.fault("forge", on="delivery", times=1)

    client.publish(event := note())

    message = reader.receive()
    assert message[2]["id"] == event.id
    with pytest.raises(InvalidEvent, match="signature"):
        event_of(message)
    assert client.subscribe({}) == [event]


def test_delivery_can_break_the_connection_of_the_subscriber(relay, client, reader):
    relay.fault("disconnect", on="delivery")

    assert client.publish(note()) == (True, "")

    with pytest.raises(ConnectionClosed):
        reader.receive()
    assert relay.subscriptions == 0


def test_fault_applies_to_its_kinds_and_author_only(relay, client):
    relay.fault("reject", kinds=[7, 9], author=pubkey_of(BOB), times=1)

    assert client.publish(note(kind=7, key=ANN))[0]
    assert client.publish(note(kind=1, key=BOB))[0]
    assert not client.publish(note(kind=9, key=BOB))[0]
    assert client.publish(note(kind=7, key=BOB))[0]


def test_request_fault_matches_kinds_and_authors_of_the_filters(relay, client):
    bob = pubkey_of(BOB)
    relay.fault("closed", on="req", kinds=[23195], author=bob)

    client.subscribe({"kinds": [23195]})
    client.subscribe({"authors": [bob]})
    client.subscribe({})
    client.send("REQ", "sub", {"kinds": [1]}, {"kinds": [23195], "authors": [bob]})

    assert client.receive()[0] == "CLOSED"


def test_the_oldest_matching_fault_applies(relay, client):
    first = relay.fault("mute", times=1)
    second = relay.fault("reject", times=1)

    client.send("EVENT", note("1").to_dict())
    client.send("EVENT", note("2").to_dict())

    assert client.receive()[2] is False
    assert client.publish(note("3"))[0]
    assert relay.hits(first) == relay.hits(second) == 1


def test_faults_with_a_chance_are_reproducible_with_a_seed():
    def accepted(seed):
        with (
            running_relay(settings=RelaySettings(seed=seed)) as relay,
            connected(relay.url) as client,
        ):
            relay.fault("reject", chance=0.5)
            return [client.publish(note(str(n)))[0] for n in range(40)]

    first = accepted(1)

    assert first == accepted(1)
    assert first != accepted(2)
    assert {True, False} == set(first)


def test_clearing_faults_releases_held_events(relay, client):
    fault = relay.fault("hold")
    client.send("EVENT", note("held").to_dict())
    wait_until(lambda: relay.held == 1)

    relay.clear_faults()

    assert client.receive()[2] is True
    assert client.publish(note("next")) == (True, "")
    with pytest.raises(KeyError):
        relay.hits(fault)


def test_reset_discards_held_messages(relay, client, reader):
    relay.fault("hold")
    relay.fault("delay", on="delivery", seconds=LONG)
    client.send("EVENT", note("held").to_dict())
    wait_until(lambda: relay.held == 1)

    relay.reset()

    assert relay.held == 0
    assert relay.events() == relay.stored() == []
    assert client.publish(event := note("next")) == (True, "")
    assert [event_of(message) for message in reader.receive_all()] == [event]
    assert relay.count() == relay.count(1) == 1


@pytest.mark.parametrize("end", ["clear_faults", "reset"])
def test_finished_delays_are_not_processed_again_on_clear_or_reset(
    relay, client, caplog, end
):
    relay.fault("delay", seconds=0.02)
    client.send("EVENT", note("soon").to_dict())
    client.receive_all()

    getattr(relay, end)()
    relay.fault("delay", seconds=0.05)
    client.send("EVENT", (later := note("later")).to_dict())

    answered = [client.receive()[1]]
    while answered[-1] != later.id:
        answered.append(client.receive()[1])
    assert len(answered) == len(set(answered))
    assert caplog.records == []


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "explode"},
        {"kind": "mute", "on": "weekend"},
        {"kind": "closed"},
        {"kind": "reject", "on": "req"},
        {"kind": "mute", "on": "delivery"},
        {"kind": "forge"},
        {"kind": "drop", "when": "after"},
        {"kind": "mute", "when": "never"},
        {"kind": "hold", "on": "delivery", "when": "after"},
        {"kind": "delay", "seconds": -1},
        {"kind": "mute", "times": 0},
        {"kind": "mute", "chance": 0},
    ],
)
def test_invalid_fault_raises_badfield(relay, fault):
    with pytest.raises(BadField):
        relay.fault(**fault)
