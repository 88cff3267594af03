"""Gift wraps, opened with another implementation (rust-nostr)."""

import json
import time
from hashlib import sha256

import pytest
import time_machine
from nostr_sdk import Event as SdkEvent
from nostr_sdk import Keys, UnwrappedGift

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.encryption import Scheme, decrypt
from caravel.nostr.events import parse_event
from caravel.nostr.private_messages import wrap_message

SENDER, RECIPIENT = generate_secret_key(), generate_secret_key()
TEXT = 'Two lines,\n"quoted" — ₿ \\ 🙂'


def open_wrap(wrap, key=RECIPIENT):
    event = SdkEvent.from_json(wrap.to_json())
    return UnwrappedGift.from_gift_wrap(Keys.parse(key), event)


def decrypt_seal(wrap):
    return parse_event(
        json.loads(decrypt(Scheme.NIP44, RECIPIENT, wrap.pubkey, wrap.content))
    )


def test_recipient_can_read_text_and_sender():
    gift = open_wrap(wrap_message(SENDER, pubkey_of(RECIPIENT), TEXT))

    assert gift.rumor().content() == TEXT
    assert gift.sender().to_hex() == pubkey_of(SENDER)
    assert gift.rumor().kind().as_u16() == 14
    assert [tag.to_vec() for tag in gift.rumor().tags()] == [
        ["p", pubkey_of(RECIPIENT)]
    ]


def test_message_is_unsigned_and_its_id_is_its_hash():
    earliest = int(time.time())
    wrap = wrap_message(SENDER, pubkey_of(RECIPIENT), TEXT)

    seal = decrypt_seal(wrap)
    message = json.loads(decrypt(Scheme.NIP44, RECIPIENT, seal.pubkey, seal.content))

    assert "sig" not in message
    assert message["id"] == sha256_of(message)
    assert earliest <= message["created_at"] <= time.time()


def sha256_of(message):
    """Return the id of an event (NIP-01)."""
    names = ("pubkey", "created_at", "kind", "tags", "content")
    hashed = [0, *(message[name] for name in names)]
    text = json.dumps(hashed, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


def test_other_key_cannot_open_wrap_or_see_sender():
    wrap = wrap_message(SENDER, pubkey_of(RECIPIENT), TEXT)

    parse_event(json.loads(wrap.to_json()))
    assert wrap.kind == 1059
    assert wrap.tags == (("p", pubkey_of(RECIPIENT)),)
    assert pubkey_of(SENDER) not in wrap.to_json()
    with pytest.raises(Exception, match=r"(?i)hmac|decrypt"):
        open_wrap(wrap, generate_secret_key())


def test_each_wrap_is_signed_by_different_key():
    wraps = [wrap_message(SENDER, pubkey_of(RECIPIENT), TEXT) for _ in range(3)]

    assert len({wrap.pubkey for wrap in wraps}) == 3
    assert len({wrap.id for wrap in wraps}) == 3


def test_times_of_wrap_and_seal_are_up_to_two_days_in_past():
    with time_machine.travel("2030-01-10T12:00:00+00:00", tick=False):
        now = time.time()
        wraps = [wrap_message(SENDER, pubkey_of(RECIPIENT), TEXT) for _ in range(20)]
    ages = [now - event.created_at for w in wraps for event in (w, decrypt_seal(w))]

    assert all(0 <= age < 2 * 86400 for age in ages)
    assert len(set(ages)) > 30
    assert max(ages) > 86400 / 2
