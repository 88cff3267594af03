"""Encryption between two keys: NIP-44, or NIP-04 for peers without it."""

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
    """The message was not encrypted with this key pair and scheme."""

    code = "nostr-message-unreadable"


class Scheme(StrEnum):
    """Encryption scheme, named as in NIP-47's `encryption` tag."""

    NIP44 = "nip44_v2"
    NIP04 = "nip04"


def encrypt(scheme: Scheme, secret_key: str, pubkey: str, text: str) -> str:
    """Encrypt a text from the secret key's owner to the public key's; keys in hex."""
    secret, public = Keys.parse(secret_key).secret_key(), PublicKey.parse(pubkey)
    if scheme is Scheme.NIP44:
        return str(nip44_encrypt(secret, public, text, Nip44Version.V2))
    return str(nip04_encrypt(secret, public, text))


def decrypt(scheme: Scheme, secret_key: str, pubkey: str, payload: str) -> str:
    """Decrypt a payload; either party can. Raises Unreadable."""
    secret, public = Keys.parse(secret_key).secret_key(), PublicKey.parse(pubkey)
    try:
        if scheme is Scheme.NIP44:
            return str(nip44_decrypt(secret, public, payload))
        return str(nip04_decrypt(secret, public, payload))
    except NostrSdkError as exc:
        raise Unreadable("This message cannot be decrypted.") from exc
