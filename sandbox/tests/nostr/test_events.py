"""Events, keys and encryption of the stand-ins, compared with other libraries."""

import json

import nostr_sdk
import pytest

from caravel.nostr import encryption, events, keys
from sandbox.common import nostr
from sandbox.tests.support.relay_client import ANN, BOB, note

TEXT = 'über 💸\u2028\t\x00\x7f"\\'
NSEC = nostr_sdk.SecretKey.parse("11" * 32).to_bech32()


def test_signed_event_is_valid_for_other_implementations():
    event = note(TEXT, tags=[["p", TEXT], ["t"]])

    assert events.parse_event(json.loads(event.to_json())).to_dict() == event.to_dict()
    assert nostr_sdk.Event.from_json(event.to_json()).verify()


def test_event_of_product_is_valid():
    event = events.sign_event(ANN, kind=1, content=TEXT, tags=[["p", TEXT]])

    assert nostr.parse_event(json.loads(event.to_json())).to_dict() == event.to_dict()


def test_public_keys_are_those_of_product():
    pubkey = nostr.pubkey_of(ANN)

    assert pubkey == keys.pubkey_of(ANN)
    assert nostr.npub(pubkey) == keys.npub(pubkey)
    assert nostr.parse_pubkey(f" {keys.npub(pubkey).upper()} ") == pubkey
    assert nostr.parse_pubkey(pubkey.upper()) == pubkey


@pytest.mark.parametrize("text", ["", "ab", "00" * 32, "ff" * 32, "npub1", NSEC])
def test_text_that_is_no_public_key_is_refused(text):
    with pytest.raises(nostr.InvalidPubkey) as caught:
        nostr.parse_pubkey(text)

    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("scheme", list(nostr.Scheme))
def test_encrypted_text_can_be_exchanged_with_product(scheme):
    ann, bob = nostr.pubkey_of(ANN), nostr.pubkey_of(BOB)
    product_scheme = encryption.Scheme(scheme.value)

    sent = nostr.encrypt(scheme, ANN, bob, TEXT)
    received = encryption.encrypt(product_scheme, BOB, ann, TEXT)

    assert encryption.decrypt(product_scheme, BOB, ann, sent) == TEXT
    assert nostr.decrypt(scheme, ANN, bob, received) == TEXT
    with pytest.raises(nostr.Unreadable):
        nostr.decrypt(scheme, ANN, ann, received)
