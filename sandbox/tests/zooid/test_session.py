"""Nostr connections to relays of the sandbox zooid.

The source is zooid's `instance.go` and `util.go`, and khatru's `handlers.go`.
"""

from functools import partial

import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from sandbox.common.nostr import generate_secret_key
from sandbox.tests.support import relay_client
from sandbox.tests.support.relay_client import event_of
from sandbox.tests.support.zooid import (
    ANN,
    ANN_KEY,
    BEN,
    BEN_KEY,
    HOST,
    authenticate,
    connected,
    create,
    member,
    patch,
    send,
)
from sandbox.zooid.relays.session import MAX_RESULTS

note = partial(relay_client.note, key=ANN_KEY)


def heard(client):
    """Return the events that a subscription has heard; each comes before the OK."""
    *messages, (verb, *_) = client.receive_all()
    assert verb == "OK"
    return [event_of(message) for message in messages]


def test_client_must_authenticate_as_a_member(zooid):
    create(zooid)

    with connected(zooid) as client:
        client.receive()
        client.send("REQ", "x", {})
        assert [client.receive()[0] for _ in range(2)] == ["AUTH", "CLOSED"]
        client.send("EVENT", note().to_dict())
        assert client.receive()[0] == "AUTH"
        assert client.receive()[2:] == [
            False,
            "auth-required: authentication is required for access",
        ]
    with member(zooid, BEN_KEY) as client:
        client.send("REQ", "x", {})
        refusal = "restricted: you are not a member of this relay"
        assert client.receive() == ["CLOSED", "x", refusal]
        assert client.publish(note(key=BEN_KEY)) == (False, refusal)


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        (f"wss://{HOST}", True),
        (f"wss://{HOST.upper()}/", True),
        # khatru expects TLS in front of a host without a port.
        (f"ws://{HOST}", False),
        (f"wss://{HOST}/path", False),
        ("wss://two.relays.example", False),
    ],
)
def test_auth_event_names_the_relay_with_its_scheme(zooid, url, accepted):
    create(zooid)

    with connected(zooid) as client:
        text = "" if accepted else "error: failed to authenticate"
        assert authenticate(client, ANN_KEY, url) == (accepted, text)


def test_relay_with_a_port_in_its_host_expects_no_tls(zooid):
    host = zooid.url.removeprefix("http://").replace("127.0.0.1", "localhost")
    create(zooid, host=host)

    with connected(zooid, host) as client:
        assert authenticate(client, ANN_KEY, f"ws://{host}") == (True, "")


def test_member_publishes_and_another_hears(zooid):
    create(zooid)
    zooid.set_members("a", [BEN])

    with member(zooid, ANN_KEY) as ann, member(zooid, BEN_KEY) as ben:
        assert ben.subscribe({"kinds": [1]}) == []
        first = note(content="first")
        assert ann.publish(first) == (True, "")
        assert ben.next_event() == first
        assert ann.publish(first) == (True, "")
        assert ann.publish(note(content="second")) == (True, "")
        assert ben.next_event().content == "second"
        assert ann.publish(note(key=BEN_KEY)) == (
            False,
            "restricted: you cannot publish events on behalf of others",
        )
    assert [event.content for event in zooid.events("a")].count("first") == 1


def test_relays_own_key_reads_everything_but_internal_events(zooid):
    relay = create(zooid, policy={"strip_signatures": True})
    zooid.set_members("a", [BEN])
    hidden = note(key=relay["secret"], kind=30_078, tags=[("d", "zooid/banned_events")])
    shown = note(key=BEN_KEY, kind=30_078, tags=[("d", "mine")])
    zooid.add_events("a", [hidden, shown, note(key=BEN_KEY, kind=30_390)])

    with member(zooid, relay["secret"]) as client:
        assert client.subscribe({}) == [shown]
    with member(zooid, BEN_KEY) as client:
        client.send("REQ", "x", {})
        assert client.receive()[2] == {**shown.to_dict(), "sig": "0" * 128} | {
            "tags": [["d", "mine"]]
        }


def test_each_filter_gets_the_newest_events_up_to_the_limit(zooid):
    create(zooid)
    events = [note(created_at=1_000 + n // 2) for n in range(2 * MAX_RESULTS)]
    events = list({event.id: event for event in events}.values())
    more = [note(content=str(n), created_at=5_000) for n in range(MAX_RESULTS + 10)]
    zooid.add_events("a", [*events, *more])

    with member(zooid, ANN_KEY) as client:
        found = client.find({})
        assert (len(found), {event.created_at for event in found}) == (1_000, {5_000})
        older = client.find({"until": 4_999, "limit": 5_000})
        assert len(older) == MAX_RESULTS
        times = [event.created_at for event in older]
        assert times == sorted(times, reverse=True)
        assert len(client.find({"limit": 3})) == 3
        assert len(client.find({"limit": 2}, {"until": 4_999, "limit": 1})) == 3
    assert len(zooid.events("a")) == len(events) + len(more)


def test_connections_of_before_a_reload_and_after_it_do_not_hear_each_other(zooid):
    create(zooid)
    zooid.set_members("a", [BEN])

    with member(zooid, ANN_KEY) as before:
        before.subscribe({"kinds": [1]})
        patch(zooid, inactive=False)
        with member(zooid, BEN_KEY) as after:
            after.subscribe({"kinds": [1]})
            old, new = note(content="old"), note("new", key=BEN_KEY)
            before.send("EVENT", old.to_dict())
            after.send("EVENT", new.to_dict())
            assert heard(before) == [old]
            assert heard(after) == [new]
            # But both are in the same database.
            assert {*after.find({})} == {old, new}


@pytest.mark.parametrize("end", ["inactive", "deleted"])
def test_open_connection_goes_on_when_the_relay_ends(zooid, end):
    create(zooid)

    with member(zooid, ANN_KEY) as client:
        if end == "inactive":
            patch(zooid, inactive=True)
        else:
            send(zooid, "DELETE", "/relay/a")

        assert client.publish(event := note()) == (True, "")
        assert client.find({}) == [event]
        with pytest.raises(InvalidStatus, match="404"), connected(zooid):
            pass


def test_schemas_that_differ_in_case_share_their_tables(zooid):
    create(zooid, schema="Reef")
    create(zooid, "b", schema="reef", host="two.relays.example")
    zooid.add_event("a", event := note())

    assert zooid.events("b") == [event]
    assert {zooid.own_pubkey(name) for name in "ab"} < {*zooid.members("b")}


def test_events_outlive_the_configuration(zooid):
    relay = create(zooid)
    zooid.add_event("a", event := note())
    send(zooid, "DELETE", "/relay/a")
    send(zooid, "POST", "/relay/b", relay)

    assert zooid.events("b") == [event]


def test_zap_for_a_member_is_accepted_from_anybody(zooid):
    create(zooid)
    stranger = generate_secret_key()

    with connected(zooid) as client:
        client.receive()
        zap = note(key=stranger, kind=9_735, tags=[("p", ANN)])
        assert client.publish(zap) == (True, "")
    assert zooid.events("a") == [zap]


def test_connection_breaks_after_a_number_of_messages(zooid):
    create(zooid)
    zooid.add_events("a", [note(content=str(n)) for n in range(10)])
    zooid.max_messages = 5

    with member(zooid, ANN_KEY) as client:
        client.send("REQ", "x", {})
        assert [client.receive()[0] for _ in range(3)] == ["EVENT"] * 3
        with pytest.raises(ConnectionClosed):
            client.receive()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "error", "status": 503}, InvalidStatus),
        ({"kind": "reset"}, InvalidMessage),
    ],
    ids=["refused", "reset"],
)
def test_fault_of_relays_refuses_connections(zooid, fault, error):
    create(zooid)
    zooid.fault(**fault, place="relays", times=1)

    with pytest.raises(error), connected(zooid):
        pass
    with member(zooid, ANN_KEY) as client:
        assert client.find({}) == []
