"""Storage of the relay: replaced, expired and evicted events."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from sandbox.nostr import RelaySettings, running_relay
from sandbox.tests.support.relay_client import ANN, BOB, connected, note

START = datetime(2026, 3, 1, tzinfo=UTC)
AT = int(START.timestamp())


def expiring_note(at, **options):
    return note(tags=[["expiration", str(at)]], **options)


def test_duplicate_event_is_accepted_but_not_delivered_again(relay, client):
    client.publish(event := note())
    client.subscribe({})

    accepted, text = client.publish(event)

    assert accepted
    assert text.startswith("duplicate: ")
    assert client.receive_all() == []
    assert relay.stored() == [event]


@pytest.mark.parametrize("kind", [0, 3, 10_002, 10_050, 13_194])
def test_only_the_newest_replaceable_event_per_author_is_kept(client, kind):
    old, newer, newest = (note(kind=kind, created_at=at) for at in (100, 200, 300))
    other = note(kind=kind, key=BOB, created_at=50)
    for event in (old, newest, other):
        assert client.publish(event) == (True, "")

    accepted, text = client.publish(newer)

    assert accepted
    assert text.startswith("duplicate: ")
    assert client.subscribe({"kinds": [kind]}) == [newest, other]
    assert client.subscribe({"ids": [old.id, newer.id]}) == []


def test_outdated_replaceable_event_is_not_delivered(client):
    client.publish(note(kind=13_194, created_at=200))
    client.subscribe({})

    client.publish(note(kind=13_194, created_at=100))

    assert client.receive_all() == []


@pytest.mark.parametrize("reverse", [False, True])
def test_lower_id_wins_between_replaceable_events_of_one_second(client, reverse):
    events = [note(str(n), kind=0, created_at=100) for n in range(2)]
    for event in reversed(events) if reverse else events:
        client.publish(event)

    assert client.subscribe({}) == [min(events, key=lambda event: event.id)]


def test_only_the_newest_addressable_event_per_d_tag_is_kept(client):
    def article(name, at, key=ANN):
        tags = [["d", name]] if name is not None else []
        return note(kind=30_023, key=key, created_at=at, tags=tags)

    newest = [article("a", 200), article("b", 120), article(None, 110)]
    for event in (article("a", 100), article(None, 90), *newest, article("a", 150)):
        client.publish(event)
    client.publish(others := article("a", 50, BOB))

    assert client.subscribe({"kinds": [30_023]}) == [*newest, others]


def test_regular_and_ephemeral_events_are_not_replaced(client):
    events = [note(kind=kind, created_at=at) for kind in (1, 23_195) for at in (1, 2)]
    for event in events:
        client.publish(event)

    assert len(client.subscribe({})) == 4


def test_expired_event_is_refused(relay, client):
    with time_machine.travel(START, tick=False):
        client.subscribe({})

        assert client.publish(expiring_note(AT)) == (False, "invalid: event is expired")
        assert client.publish(expiring_note(AT - 1))[0] is False

        assert client.receive_all() == []
        assert relay.stored() == []
        client.send("EVENT", (event := expiring_note(AT + 1)).to_dict())
        assert client.next_event() == event


def test_stored_event_is_returned_until_it_expires(client):
    with time_machine.travel(START, tick=False) as clock:
        client.publish(event := expiring_note(AT + 60))
        persistent = note(created_at=1)
        client.publish(persistent)

        clock.shift(timedelta(seconds=59))
        assert client.subscribe({}) == [event, persistent]
        clock.shift(timedelta(seconds=1))
        assert client.subscribe({}) == [persistent]
        assert client.publish(event)[0] is False


def test_expired_events_do_not_count_towards_a_limit(client):
    with time_machine.travel(START, tick=False) as clock:
        client.publish(persistent := note(created_at=1))
        client.publish(expiring_note(AT + 60))

        clock.shift(timedelta(hours=1))

        assert client.subscribe({"limit": 1}) == [persistent]


def test_without_honours_expiration_expired_events_are_returned():
    settings = RelaySettings(honours_expiration=False)
    with (
        time_machine.travel(START, tick=False) as clock,
        running_relay(settings=settings) as relay,
        connected(relay.url) as client,
    ):
        late, soon = expiring_note(AT - 1), expiring_note(AT + 60)
        assert client.publish(late) == client.publish(soon) == (True, "")

        clock.shift(timedelta(hours=1))
        assert set(client.subscribe({})) == {late, soon}

        relay.change_settings(honours_expiration=True)
        assert client.subscribe({}) == []


def test_held_event_that_expires_meanwhile_is_refused(relay, client):
    with time_machine.travel(START, tick=False) as clock:
        relay.fault("hold")
        client.send("EVENT", (event := expiring_note(AT + 60)).to_dict())
        assert client.receive_all() == []

        clock.shift(timedelta(hours=1))
        relay.release()

        assert client.receive() == ["OK", event.id, False, "invalid: event is expired"]


@pytest.mark.parametrize("text", ["", "soon", "-5", "1.5", "²", "9" * 5_000])
def test_invalid_expiration_tag_is_ignored(client, text):
    event = note(tags=[["expiration", text], ["expiration"]])

    assert client.publish(event) == (True, "")
    assert client.subscribe({}) == [event]


def test_eviction_removes_the_oldest_ephemeral_event_first():
    with (
        running_relay(settings=RelaySettings(max_events=3)) as relay,
        connected(relay.url) as client,
    ):
        persistent = [note(created_at=at) for at in (1, 2, 3)]
        ephemeral = [note(kind=23_195, created_at=at) for at in (30, 20)]

        for event in (persistent[0], *ephemeral, persistent[1]):
            client.publish(event)
        assert client.find({}) == [ephemeral[1], persistent[1], persistent[0]]
        client.publish(persistent[2])
        assert client.find({}) == persistent[::-1]
        client.publish(newest := note(created_at=4))

        assert client.find({}) == [newest, persistent[2], persistent[1]]
        assert client.publish(persistent[0]) == (True, "")


def test_older_version_is_accepted_after_a_replaceable_event_was_evicted():
    with (
        running_relay(settings=RelaySettings(max_events=1)) as relay,
        connected(relay.url) as client,
    ):
        client.publish(note(kind=0, created_at=200))
        client.publish(note())

        assert client.publish(older := note(kind=0, created_at=100)) == (True, "")

        assert client.find({}) == [older]
