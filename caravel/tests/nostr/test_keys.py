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

# The example in NIP-19.
HEX = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e"
NPUB = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"


@pytest.mark.parametrize("text", [HEX, HEX.upper(), NPUB, NPUB.upper(), f"  {HEX}\n"])
def test_hex_and_npub_parse_to_same_key(text):
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
def test_text_that_is_no_public_key_is_refused(text):
    with pytest.raises(InvalidPubkey) as caught:
        parse_pubkey(text)

    assert caught.value.code == "pubkey-invalid"


def test_secret_key_is_refused_and_not_repeated_in_message():
    secret = PrivateKey()

    for text in (secret.nsec, secret.nsec.replace("nsec1", "npub1")):
        with pytest.raises(InvalidPubkey) as caught:
            parse_pubkey(text)
        assert text not in str(caught.value)


def test_public_key_of_generated_key_parses():
    pubkey = pubkey_of(generate_secret_key())

    assert parse_pubkey(pubkey) == pubkey
    assert short_npub(pubkey).startswith("npub1")
    assert len(short_npub(pubkey)) < 20


def test_npub_prefix_converts_to_hex_prefix():
    pubkey = pubkey_of(generate_secret_key())

    for length in (6, 12, 40, 63):
        prefix = npub_prefix_to_hex(npub(pubkey)[:length])
        assert pubkey.startswith(prefix)
        assert len(prefix) == min((length - 5) * 5 // 4, 64)
    assert pubkey.startswith(npub_prefix_to_hex(f" {short_npub(pubkey)}"))
    assert (
        npub_prefix_to_hex("npub1")
        == npub_prefix_to_hex("npub1b")
        == npub_prefix_to_hex("x")
        == ""
    )
