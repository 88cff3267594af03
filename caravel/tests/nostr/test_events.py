import json
import time

import pytest

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.encryption import Scheme, Unreadable, decrypt, encrypt
from caravel.nostr.events import InvalidEvent, parse_event, sign_event

SECRET = generate_secret_key()


def signed(**fields):
    return (
        sign_event(
            SECRET,
            kind=1,
            content='hé \u2028 "x" \n',
            tags=[("p", "a"), ["e", "b", "c"]],
        ).to_dict()
        | fields
    )


def test_signed_event_survives_json_round_trip():
    earliest = int(time.time())
    event = sign_event(SECRET, kind=23194, content="x", tags=[("e", "1"), ("e", "2")])
    latest = time.time()

    assert parse_event(json.loads(event.to_json())) == event
    assert event.pubkey == pubkey_of(SECRET)
    assert event.values("e") == ["1", "2"]
    assert earliest <= event.created_at <= latest


def test_id_of_event_with_special_characters_verifies():
    assert parse_event(json.loads(json.dumps(signed()))).content == signed()["content"]


@pytest.mark.parametrize(
    "change",
    [
        {"id": "00" * 32},
        {"content": "changed"},
        {"pubkey": pubkey_of(generate_secret_key())},
        {"pubkey": "00" * 32},
        {"sig": "00" * 64},
        {"sig": "zz"},
        {"sig": signed()["sig"].upper()},
        {"pubkey": signed()["pubkey"].upper()},
        {"kind": -1},
        {"kind": "1"},
        {"kind": True},
        {"created_at": 1.5},
        {"tags": None},
        {"tags": [["p", 1]]},
        {"tags": ["p"]},
        {"content": None},
        {"content": "\ud800"},
    ],
)
def test_changed_or_malformed_event_is_refused(change):
    with pytest.raises(InvalidEvent) as caught:
        parse_event(signed(**change))

    assert caught.value.code == "nostr-event-invalid"


@pytest.mark.parametrize("data", [None, [], "x", {}, {"id": "1"}, 5])
def test_data_that_is_no_event_is_refused(data):
    with pytest.raises(InvalidEvent):
        parse_event(data)


@pytest.mark.parametrize("scheme", list(Scheme))
def test_only_sender_and_recipient_can_decrypt(scheme):
    recipient, other = generate_secret_key(), generate_secret_key()
    payload = encrypt(scheme, SECRET, pubkey_of(recipient), "hé")

    assert "hé" not in payload
    assert decrypt(scheme, recipient, pubkey_of(SECRET), payload) == "hé"
    assert decrypt(scheme, SECRET, pubkey_of(recipient), payload) == "hé"
    assert decrypt_or_none(other, scheme, payload) != "hé"


def decrypt_or_none(key, scheme, payload):
    # NIP-04 has no authentication: with a wrong key the result may be garbage.
    try:
        return decrypt(scheme, key, pubkey_of(SECRET), payload)
    except Unreadable:
        return None


@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("payload", ["", "x", "a?iv=b", "?iv=", "A" * 200])
def test_invalid_payload_is_unreadable(scheme, payload):
    with pytest.raises(Unreadable):
        decrypt(scheme, SECRET, pubkey_of(generate_secret_key()), payload)
