"""NIP-44's published vectors, for Caravel's encryption and for the sandbox's.

https://github.com/paulmillr/nip44/blob/main/javascript/nip44.vectors.json
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from nostr_sdk import NostrSdkError

from caravel.nostr import encryption
from caravel.nostr.keys import pubkey_of
from caravel.tests.support import nip44
from sandbox.common import nostr as sandbox

FILE = (Path(__file__).parents[1] / "fixtures/nip44.vectors.json").read_bytes()
VECTORS = json.loads(FILE)["v2"]
VALID, INVALID = VECTORS["valid"], VECTORS["invalid"]
#: Two parties without a vector.
ALICE, BOB = "11" * 32, "22" * 32
NONCE = "33" * 32
#: The longest text that nostr-sdk 0.45 encrypts; NIP-44 allows 65,535 bytes. What we
#: encrypt is far shorter. https://github.com/block/buzz/pull/7640
LONGEST = 65_536 - 128


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(params=[encryption, sandbox], ids=["caravel", "sandbox"])
def module(request):
    return request.param


def encrypt(module, secret_key, pubkey, text):
    return module.encrypt(module.Scheme.NIP44, secret_key, pubkey, text)


def decrypt(module, secret_key, pubkey, payload):
    return module.decrypt(module.Scheme.NIP44, secret_key, pubkey, payload)


def test_file_is_the_published_one():
    # The checksum that NIP-44 itself contains.
    assert hashlib.sha256(FILE).hexdigest() == (
        "269ed0f69e4c192512cc779e78c555090cebc7c785b609e338a62afc3ce25040"
    )


def test_reference_has_the_message_keys_of_the_vectors():
    key = VALID["get_message_keys"]["conversation_key"]

    for expected in VALID["get_message_keys"]["keys"]:
        nonce = expected["nonce"]
        assert {"nonce": nonce, **asdict(nip44.message_keys(key, nonce))} == expected


def test_reference_encrypts_long_messages_like_the_vectors():
    for long in VALID["encrypt_decrypt_long_msg"]:
        text = long["pattern"] * long["repeat"]
        padded = nip44.pad(text)
        payload = nip44.encrypt_padded(long["conversation_key"], long["nonce"], padded)

        assert sha256(text) == long["plaintext_sha256"]
        assert sha256(payload) == long["payload_sha256"]


def test_messages_are_encrypted_with_the_conversation_key(module):
    for pair in VALID["get_conversation_key"]:
        assert (
            nip44.conversation_key(pair["sec1"], pair["pub2"])
            == (pair["conversation_key"])
        )
        payload = encrypt(module, pair["sec1"], pair["pub2"], "Caravel")

        padded = nip44.decrypt_padded(pair["conversation_key"], payload)
        assert padded == nip44.pad("Caravel")


def test_payload_has_the_padded_length(module):
    key = nip44.conversation_key(ALICE, pubkey_of(BOB))

    for length, padded in VALID["calc_padded_len"]:
        text = "x" * min(length, LONGEST)
        payload = encrypt(module, ALICE, pubkey_of(BOB), text)

        assert nip44.padded_length(length) == padded
        assert nip44.decrypt_padded(key, payload) == nip44.pad(text)
        assert len(nip44.pad(text)) == 2 + padded


@pytest.mark.parametrize("vector", VALID["encrypt_decrypt"], ids=lambda v: v["nonce"])
def test_payload_of_the_vectors_is_decrypted_by_both_parties(module, vector):
    first, second = vector["sec1"], vector["sec2"]
    text, payload = vector["plaintext"], vector["payload"]

    assert decrypt(module, first, pubkey_of(second), payload) == text
    assert decrypt(module, second, pubkey_of(first), payload) == text
    key, padded = vector["conversation_key"], nip44.pad(text)
    assert nip44.conversation_key(first, pubkey_of(second)) == key
    assert nip44.encrypt_padded(key, vector["nonce"], padded) == payload


def test_long_messages_are_decrypted(module):
    key = nip44.conversation_key(ALICE, pubkey_of(BOB))

    for long in VALID["encrypt_decrypt_long_msg"]:
        text = long["pattern"] * long["repeat"]
        payload = nip44.encrypt_padded(key, long["nonce"], nip44.pad(text))

        assert decrypt(module, BOB, pubkey_of(ALICE), payload) == text


@pytest.mark.parametrize("length", INVALID["encrypt_msg_lengths"])
def test_message_of_an_impossible_length_is_not_encrypted(module, length):
    with pytest.raises(NostrSdkError):
        encrypt(module, ALICE, pubkey_of(BOB), "x" * length)


@pytest.mark.parametrize(
    "pair", INVALID["get_conversation_key"], ids=lambda pair: pair["note"]
)
def test_impossible_keys_encrypt_and_decrypt_nothing(module, pair):
    payload = VALID["encrypt_decrypt"][0]["payload"]

    with pytest.raises(NostrSdkError):
        encrypt(module, pair["sec1"], pair["pub2"], "a")
    with pytest.raises((NostrSdkError, encryption.Unreadable, sandbox.Unreadable)):
        decrypt(module, pair["sec1"], pair["pub2"], payload)


@pytest.mark.parametrize(
    "vector", INVALID["decrypt"], ids=lambda vector: vector["note"]
)
def test_invalid_payload_is_unreadable(module, vector):
    with pytest.raises(module.Unreadable):
        decrypt(module, BOB, pubkey_of(ALICE), vector["payload"])


@pytest.mark.parametrize(
    "vector", [v for v in INVALID["decrypt"] if v["note"] == "invalid padding"]
)
def test_wrong_padding_is_unreadable_although_the_mac_is_right(module, vector):
    # The vectors name no secret keys, so their padding is encrypted for other ones.
    padded = nip44.decrypt_padded(vector["conversation_key"], vector["payload"])
    key = nip44.conversation_key(ALICE, pubkey_of(BOB))
    payload = nip44.encrypt_padded(key, NONCE, padded)

    with pytest.raises(module.Unreadable) as caught:
        decrypt(module, BOB, pubkey_of(ALICE), payload)

    assert "HMAC" not in str(caught.value.__cause__)
