"""Proving keys to a relay that requires it (NIP-42)."""

import time

import pytest

from caravel.nostr import pubkey_of
from sandbox.nostr import RelaySettings, running_relay
from sandbox.tests.support.relay_client import ANN, BOB, connected, note


@pytest.fixture
def relay():
    with running_relay(settings=RelaySettings(requires_auth=True)) as relay:
        yield relay


def proof(url, challenge, *, key=ANN, kind=22_242, age=0, **changes):
    values = {"relay": url, "challenge": challenge, **changes}
    return note(
        key=key,
        kind=kind,
        tags=[[name, value] for name, value in values.items()],
        created_at=int(time.time()) - age,
    )


def challenge_of(client):
    verb, challenge = client.take()
    assert verb == "AUTH"
    return challenge


def prove(client, event):
    client.send("AUTH", event.to_dict())
    verb, event_id, accepted, text = client.take()
    assert (verb, event_id) == ("OK", event.id)
    return accepted, text


def test_nothing_is_done_before_a_key_is_proven(relay):
    with connected(relay.url) as client:
        challenge = challenge_of(client)

        accepted, text = client.publish(event := note())
        assert not accepted
        assert text.startswith("auth-required: ")
        client.send("REQ", "sub", {})
        verb, name, text = client.take()
        assert (verb, name) == ("CLOSED", "sub")
        assert text.startswith("auth-required: ")
        assert relay.stored() == []

        assert prove(client, proof(relay.url, challenge)) == (True, "")
        assert client.publish(event) == (True, "")
        assert client.ask({}) == [event]


def test_several_keys_are_proven_on_one_connection(relay):
    with connected(relay.url) as client:
        challenge = challenge_of(client)

        for key in (ANN, BOB):
            assert prove(client, proof(relay.url, challenge, key=key)) == (True, "")

        assert relay.authenticated == {pubkey_of(ANN), pubkey_of(BOB)}


def test_each_connection_has_a_challenge_of_its_own(relay):
    with connected(relay.url) as one, connected(relay.url) as two:
        first, second = challenge_of(one), challenge_of(two)

        assert first != second
        assert prove(one, proof(relay.url, first)) == (True, "")
        assert prove(two, proof(relay.url, first))[0] is False
        assert two.publish(note())[0] is False


@pytest.mark.parametrize(
    "wrong",
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
def test_a_wrong_proof_proves_nothing(relay, wrong):
    with connected(relay.url) as client:
        challenge = challenge_of(client)

        accepted, text = prove(
            client, proof(**{"url": relay.url, "challenge": challenge, **wrong})
        )

        assert not accepted
        assert text.startswith("invalid: ")
        assert relay.authenticated == set()
        assert client.publish(note())[0] is False


def test_a_forged_proof_proves_nothing(relay):
    with connected(relay.url) as client:
        event = proof(relay.url, challenge_of(client))

        client.send("AUTH", {**event.to_dict(), "pubkey": pubkey_of(BOB)})

        assert client.take()[2] is False
        assert relay.authenticated == set()


def test_the_address_is_the_one_the_client_used(relay):
    with connected(f"ws://localhost:{relay.port}/") as client:
        challenge = challenge_of(client)
        url = f"ws://LOCALHOST:{relay.port}"

        assert prove(client, proof(url, challenge)) == (True, "")
