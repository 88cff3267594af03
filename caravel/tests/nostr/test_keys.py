import pytest
from pynostr.key import PrivateKey

from caravel.nostr import (
    InvalidPubkey,
    generate_secret_key,
    npub,
    npub_prefix_to_hex,
    parse_pubkey,
    pubkey_of,
    short_npub,
)

# NIP-19's own example.
HEX = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e"
NPUB = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"


@pytest.mark.parametrize("text", [HEX, HEX.upper(), NPUB, NPUB.upper(), f"  {HEX}\n"])
def test_hex_and_npub_are_the_same_key(text):
    assert parse_pubkey(text) == HEX
    assert npub(HEX) == NPUB


@pytest.mark.parametrize(
    "text",
    [
        None,
        5,
        "",
        "npub1",
        NPUB[:-1] + "q",  # checksum
        NPUB[:-4],
        HEX[:-1],
        HEX + "00",
        "z" * 64,
        "0" * 64,  # not on the curve
        "f" * 64,
        "npub1" + "q" * 58,
    ],
)
def test_what_is_no_key_is_refused_with_a_code(text):
    with pytest.raises(InvalidPubkey) as caught:
        parse_pubkey(text)

    assert caught.value.code == "pubkey-invalid"


def test_a_secret_key_is_refused_and_never_repeated():
    secret = PrivateKey()

    for text in (secret.nsec, secret.nsec.replace("nsec1", "npub1")):
        with pytest.raises(InvalidPubkey) as caught:
            parse_pubkey(text)
        assert text not in str(caught.value)


def test_a_generated_key_has_a_public_half_that_parses():
    pubkey = pubkey_of(generate_secret_key())

    assert parse_pubkey(pubkey) == pubkey
    assert short_npub(pubkey).startswith("npub1")
    assert len(short_npub(pubkey)) < 20


def test_how_an_npub_begins_is_how_its_hex_begins():
    pubkey = pubkey_of(generate_secret_key())

    for length in (6, 12, 40, 63):
        found = npub_prefix_to_hex(npub(pubkey)[:length])
        assert pubkey.startswith(found)
        assert len(found) == min((length - 5) * 5 // 4, 64)
    assert pubkey.startswith(npub_prefix_to_hex(f" {short_npub(pubkey)}"))
    assert (
        npub_prefix_to_hex("npub1")
        == npub_prefix_to_hex("npub1b")
        == npub_prefix_to_hex("x")
        == ""
    )
