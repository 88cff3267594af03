"""Nostr keys: parsing, display and creation (NIP-01, NIP-19)."""

import re

import coincurve
from pynostr.key import PrivateKey, PublicKey

from caravel.core.exceptions import Invalid

_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_HEX_KEY = re.compile(r"[0-9a-f]{64}")


class InvalidPubkey(Invalid):
    """The text is not a public key in hex or npub format."""

    code = "pubkey-invalid"


def parse_pubkey(text: str) -> str:
    """Convert a public key, 64 hex digits or an npub, to lower-case hex.

    Raises InvalidPubkey; the message never repeats the input, which may be a secret key
    pasted by mistake.
    """
    text = text.strip() if isinstance(text, str) else ""
    if text.lower().startswith("npub1"):
        text = _decode_npub(text)
    text = text.lower()
    if not _HEX_KEY.fullmatch(text) or not _is_on_curve(text):
        raise InvalidPubkey("A public key is 64 hex digits or an npub.")
    return text


def npub_prefix_to_hex(text: str) -> str:
    """Return the hex prefix of public keys whose npub starts with the text.

    The text may be the output of `short_npub`. Returns "" if it is not an npub prefix.
    """
    data = text.strip().lower().partition("…")[0].removeprefix("npub1")
    if not text.strip().lower().startswith("npub1") or not set(data) <= {*_BECH32}:
        return ""
    # Each bech32 character carries 5 bits; after 52 of them the checksum follows.
    bits = "".join(f"{_BECH32.index(char):05b}" for char in data[:52])[:256]
    nibbles = (bits[i : i + 4] for i in range(0, len(bits) - 3, 4))
    return "".join(f"{int(nibble, 2):x}" for nibble in nibbles)


def npub(pubkey: str) -> str:
    """Return the npub of a hex public key (NIP-19)."""
    return str(PublicKey.from_hex(pubkey).bech32())


def short_npub(pubkey: str) -> str:
    """Return a shortened npub for lists: `npub1abcdefg…vwxyz`."""
    full = npub(pubkey)
    return f"{full[:12]}…{full[-5:]}"


def generate_secret_key() -> str:
    """Return a new secret key in hex."""
    return str(PrivateKey().hex())


def is_secret_key(text: str) -> bool:
    """Return whether the text is a secret key in lower-case hex (BIP-340)."""
    if not _HEX_KEY.fullmatch(text):
        return False
    try:
        coincurve.PrivateKey(bytes.fromhex(text))
    except ValueError:
        return False
    return True


def pubkey_of(secret_key: str) -> str:
    """Return the hex public key of a hex secret key."""
    return str(PrivateKey.from_hex(secret_key).public_key.hex())


def _decode_npub(text: str) -> str:
    # pynostr accepts any bech32 prefix, even nsec: the caller has checked for npub1.
    try:
        return str(PublicKey.from_npub(text).hex())
    except (TypeError, ValueError) as exc:
        raise InvalidPubkey("This npub is misspelt.") from exc


def _is_on_curve(pubkey: str) -> bool:
    try:
        coincurve.PublicKeyXOnly(bytes.fromhex(pubkey))
    except ValueError:
        return False
    return True
