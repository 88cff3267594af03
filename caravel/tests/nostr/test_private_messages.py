"""Gift wraps against another implementation, rust-nostr's."""

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

ME, THEM = generate_secret_key(), generate_secret_key()
TEXT = 'Two lines,\n"quoted" — ₿ \\ 🙂'


def opened(wrap, key=THEM):
    event = SdkEvent.from_json(wrap.to_json())
    return UnwrappedGift.from_gift_wrap(Keys.parse(key), event)


def seal_in(wrap):
    return parse_event(
        json.loads(decrypt(Scheme.NIP44, THEM, wrap.pubkey, wrap.content))
    )


def test_the_recipient_reads_text_and_sender():
    gift = opened(wrap_message(ME, pubkey_of(THEM), TEXT))

    assert gift.rumor().content() == TEXT
    assert gift.sender().to_hex() == pubkey_of(ME)
    assert gift.rumor().kind().as_u16() == 14
    assert [tag.to_vec() for tag in gift.rumor().tags()] == [["p", pubkey_of(THEM)]]


def test_the_id_of_the_message_is_its_hash():
    wrap = wrap_message(ME, pubkey_of(THEM), TEXT)

    seal = seal_in(wrap)
    message = json.loads(decrypt(Scheme.NIP44, THEM, seal.pubkey, seal.content))

    assert "sig" not in message
    assert message["id"] == sha256_of(message)
    assert abs(message["created_at"] - time.time()) < 10


def sha256_of(message):
    """The id of an event, as NIP-01 has it."""
    names = ("pubkey", "created_at", "kind", "tags", "content")
    hashed = [0, *(message[name] for name in names)]
    text = json.dumps(hashed, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


def test_nobody_else_can_open_it_nor_see_who_wrote():
    wrap = wrap_message(ME, pubkey_of(THEM), TEXT)

    parse_event(json.loads(wrap.to_json()))
    assert wrap.kind == 1059
    assert wrap.tags == (("p", pubkey_of(THEM)),)
    assert pubkey_of(ME) not in wrap.to_json()
    with pytest.raises(Exception, match=r"(?i)hmac|decrypt"):
        opened(wrap, generate_secret_key())


def test_each_wrap_has_a_key_of_its_own():
    wraps = [wrap_message(ME, pubkey_of(THEM), TEXT) for _ in range(3)]

    assert len({wrap.pubkey for wrap in wraps}) == 3
    assert len({wrap.id for wrap in wraps}) == 3


def test_the_times_of_wrap_and_seal_lie_up_to_two_days_back():
    with time_machine.travel("2030-01-10T12:00:00+00:00", tick=False):
        now = time.time()
        wraps = [wrap_message(ME, pubkey_of(THEM), TEXT) for _ in range(20)]
    ages = [now - event.created_at for w in wraps for event in (w, seal_in(w))]

    assert all(0 <= age < 2 * 86400 for age in ages)
    assert len(set(ages)) > 30
    assert max(ages) > 86400 / 2
