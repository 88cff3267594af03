"""Authentication to a relay that requires it (NIP-42)."""

import time

import pytest

from sandbox.common.nostr import pubkey_of
from sandbox.nostr import RelaySettings, running_relay
from sandbox.tests.support.relay_client import ANN, BOB, connected, note


@pytest.fixture
def relay():
    with running_relay(settings=RelaySettings(requires_auth=True)) as relay:
        yield relay


def auth_event(url, challenge, *, key=ANN, kind=22_242, age=0, **changes):
    values = {"relay": url, "challenge": challenge, **changes}
    return note(
        key=key,
        kind=kind,
        tags=[[name, value] for name, value in values.items()],
        created_at=int(time.time()) - age,
    )


def challenge_of(client):
    verb, challenge = client.receive()
    assert verb == "AUTH"
    return challenge


def authenticate(client, event):
    client.send("AUTH", event.to_dict())
    verb, event_id, accepted, text = client.receive()
    assert (verb, event_id) == ("OK", event.id)
    return accepted, text


def test_event_and_req_are_refused_until_the_client_authenticates(relay):
    with connected(relay.url) as client:
        challenge = challenge_of(client)

        accepted, text = client.publish(event := note())
        assert not accepted
        assert text.startswith("auth-required: ")
        client.send("REQ", "sub", {})
        verb, name, text = client.receive()
        assert (verb, name) == ("CLOSED", "sub")
        assert text.startswith("auth-required: ")
        assert relay.stored() == []

        assert authenticate(client, auth_event(relay.url, challenge)) == (True, "")
        assert client.publish(event) == (True, "")
        assert client.subscribe({}) == [event]


def test_one_connection_can_authenticate_several_keys(relay):
    with connected(relay.url) as client:
        challenge = challenge_of(client)

        for key in (ANN, BOB):
            assert authenticate(client, auth_event(relay.url, challenge, key=key)) == (
                True,
                "",
            )

        assert relay.authenticated == {pubkey_of(ANN), pubkey_of(BOB)}


def test_challenge_of_another_connection_is_not_accepted(relay):
    with connected(relay.url) as client, connected(relay.url) as other:
        first, second = challenge_of(client), challenge_of(other)

        assert first != second
        assert authenticate(client, auth_event(relay.url, first)) == (True, "")
        assert authenticate(other, auth_event(relay.url, first))[0] is False
        assert other.publish(note())[0] is False


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": 1},
        {"age": 700},
        {"age": -700},
        {"challenge": "another"},
        {"relay": "ws://elsewhere.example"},
        {"relay": "ws://[half"},
        {"relay": ""},
    ],
)
def test_invalid_auth_event_is_refused(relay, changes):
    with connected(relay.url) as client:
        challenge = challenge_of(client)

        accepted, text = authenticate(
            client, auth_event(**{"url": relay.url, "challenge": challenge, **changes})
        )

        assert not accepted
        assert text.startswith("invalid: ")
        assert relay.authenticated == set()
        assert client.publish(note())[0] is False


def test_auth_event_with_a_forged_pubkey_is_refused(relay):
    with connected(relay.url) as client:
        event = auth_event(relay.url, challenge_of(client))

        client.send("AUTH", {**event.to_dict(), "pubkey": pubkey_of(BOB)})

        assert client.receive()[2] is False
        assert relay.authenticated == set()


def test_auth_event_must_name_the_address_the_client_used(relay):
    with connected(f"ws://localhost:{relay.port}/") as client:
        challenge = challenge_of(client)
        url = f"ws://LOCALHOST:{relay.port}"

        assert authenticate(client, auth_event(url, challenge)) == (True, "")


def test_relay_that_requires_auth_to_read_accepts_events_of_anybody(relay):
    relay.change_settings(requires_auth=False, requires_auth_to_read=True)
    with connected(relay.url) as client:
        challenge = challenge_of(client)

        assert client.publish(event := note()) == (True, "")
        client.send("REQ", "sub", {})
        assert client.receive()[2].startswith("auth-required: ")
        authenticate(client, auth_event(relay.url, challenge))
        assert client.subscribe({}) == [event]


def test_late_challenge_follows_the_first_refusal_only(relay):
    relay.change_settings(late_challenge=True)
    with connected(relay.url) as client:
        assert client.publish(note())[1].startswith("auth-required: ")
        challenge = challenge_of(client)
        client.send("REQ", "sub", {})
        assert client.receive()[0] == "CLOSED"

        assert authenticate(client, auth_event(relay.url, challenge)) == (True, "")


def test_auth_without_acknowledgement_is_valid(relay):
    relay.change_settings(acknowledges_auth=False)
    with connected(relay.url) as client:
        event = auth_event(relay.url, challenge_of(client))

        client.send("AUTH", event.to_dict())

        assert client.publish(note()) == (True, "")


def test_events_are_served_to_their_author_and_recipients_only(relay):
    relay.change_settings(serves_own_events=True)
    with connected(relay.url) as sender, connected(relay.url) as client:
        for peer, key in ((sender, ANN), (client, BOB)):
            challenge = challenge_of(peer)
            authenticate(peer, auth_event(relay.url, challenge, key=key))
        to_bob = note("to Bob", tags=[["p", pubkey_of(BOB)]])
        to_nobody = note("to nobody")
        for event in (to_bob, to_nobody):
            sender.publish(event)

        assert client.subscribe({}) == [to_bob]
        sender.publish(note("again to nobody"))
        sender.publish(live := note("again to Bob", tags=[["p", pubkey_of(BOB)]]))
        assert client.next_event() == live


def test_broad_filters_match_nothing_or_are_refused():
    """Filters with neither `authors` nor `#p`."""
    with running_relay() as relay, connected(relay.url) as client:
        client.publish(event := note(tags=[["p", pubkey_of(BOB)], ["e", "00" * 32]]))
        scoped = [{"authors": [pubkey_of(ANN)]}, {"#p": [pubkey_of(BOB)]}]

        relay.change_settings(ignores_broad_filters=True)
        assert client.subscribe({"#e": ["00" * 32]}) == []
        for filter in scoped:
            assert client.subscribe(filter) == [event]

        relay.change_settings(refuses_broad_filters=True)
        client.send("REQ", "sub", scoped[0], {"#e": ["00" * 32]})
        assert client.receive()[2] == "invalid: a filter must have authors or #p"


def test_fault_has_a_reason():
    with running_relay() as relay, connected(relay.url) as client:
        relay.fault("reject", times=1, reason="rate-limited: slow down")

        assert client.publish(note()) == (False, "rate-limited: slow down")
