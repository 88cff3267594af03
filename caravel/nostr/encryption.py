"""Encrypting a text between two keys: NIP-44, and NIP-04 for who has nothing better."""

from enum import StrEnum

from nostr_sdk import (
    Keys,
    Nip44Version,
    NostrSdkError,
    PublicKey,
    nip04_decrypt,
    nip04_encrypt,
    nip44_decrypt,
    nip44_encrypt,
)

from caravel.core.exceptions import Invalid


class Unreadable(Invalid):
    """Not encrypted to this key, by that one, or in that way."""

    code = "nostr-message-unreadable"


class Scheme(StrEnum):
    """How a message is encrypted, as NIP-47's `encryption` tag names it."""

    NIP44 = "nip44_v2"
    NIP04 = "nip04"


def encrypt(scheme: Scheme, secret_key: str, pubkey: str, text: str) -> str:
    """Encrypt from the owner of a secret key to that of a public key, both in hex."""
    mine, theirs = Keys.parse(secret_key).secret_key(), PublicKey.parse(pubkey)
    if scheme is Scheme.NIP44:
        return str(nip44_encrypt(mine, theirs, text, Nip44Version.V2))
    return str(nip04_encrypt(mine, theirs, text))


def decrypt(scheme: Scheme, secret_key: str, pubkey: str, payload: str) -> str:
    """Decrypt what `encrypt` made in either direction. Raises Unreadable."""
    mine, theirs = Keys.parse(secret_key).secret_key(), PublicKey.parse(pubkey)
    try:
        if scheme is Scheme.NIP44:
            return str(nip44_decrypt(mine, theirs, payload))
        return str(nip04_decrypt(mine, theirs, payload))
    except NostrSdkError as exc:
        raise Unreadable("This message cannot be decrypted.") from exc
