"""Nostr keys, events and encryption (NIP-01, NIP-04, NIP-19, NIP-44).

Written separately from the product's `caravel.nostr`: with the same code on both sides
a mistake in it would go unnoticed.
"""

import hashlib
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import coincurve
import nostr_sdk

from sandbox.common.http import dump_json
from sandbox.common.secrets import track

HEX = re.compile(r"[0-9a-f]{64}")
SIGNATURE = re.compile(r"[0-9a-f]{128}")
KINDS = range(65_536)
TIMES = range(2**63)


class InvalidPubkey(ValueError):
    """The text is not a public key; the message does not repeat it."""


class InvalidEvent(ValueError):
    """The data is not a valid event; the message says why."""


class Unreadable(ValueError):
    """The message was not encrypted with this key pair and scheme."""


def generate_secret_key() -> str:
    """Return a new secret key in hex."""
    return track(coincurve.PrivateKey().to_hex())


def is_secret_key(text: str) -> bool:
    """Return whether the text is a secret key in lower-case hex."""
    try:
        return bool(HEX.fullmatch(text) and coincurve.PrivateKey.from_hex(text))
    except ValueError:
        return False


def pubkey_of(secret_key: str) -> str:
    """Return the public key of a secret key, both in hex."""
    key = coincurve.PrivateKey(bytes.fromhex(secret_key))
    return key.public_key_xonly.format().hex()


def is_pubkey(text: str) -> bool:
    """Return whether the text is a public key in lower-case hex."""
    try:
        return bool(HEX.fullmatch(text) and _public_key(text))
    except ValueError:
        return False


def parse_pubkey(text: str) -> str:
    """Return a public key, given in hex or as an npub, in hex. Raises InvalidPubkey."""
    text = text.strip().lower()
    if text.startswith("npub1"):
        try:
            text = nostr_sdk.PublicKey.parse(text).to_hex()
        except nostr_sdk.NostrSdkError as exc:
            raise InvalidPubkey("This npub is misspelt.") from exc
    if not is_pubkey(text):
        raise InvalidPubkey("A public key is 64 hex digits or an npub.")
    return text


def npub(pubkey: str) -> str:
    """Return the npub of a public key in hex (NIP-19)."""
    return str(nostr_sdk.PublicKey.parse(pubkey).to_bech32())


def short_npub(pubkey: str) -> str:
    """Return a shortened npub for display: `npub1abcdefg…vwxyz`."""
    text = npub(pubkey)
    return f"{text[:12]}…{text[-5:]}"


@dataclass(frozen=True)
class Event:
    """A signed event; `created_at` is a Unix time."""

    id: str
    pubkey: str
    created_at: int
    kind: int
    tags: tuple[tuple[str, ...], ...]
    content: str
    sig: str

    def values(self, name: str) -> list[str]:
        """Return the first value of each tag with this name."""
        return [tag[1] for tag in self.tags if len(tag) > 1 and tag[0] == name]

    @property
    def expires_at(self) -> int | None:
        """Its expiration as a Unix time (NIP-40); None without a valid tag."""
        text = next(iter(self.values("expiration")), "")
        is_number = text.isascii() and text.isdecimal() and len(text) < 20
        return int(text) if is_number else None

    def is_expired(self, now: float) -> bool:
        """Return whether the event is expired at a Unix time."""
        return self.expires_at is not None and self.expires_at <= now

    def to_dict(self) -> dict[str, Any]:
        """Return the event as a JSON object of NIP-01."""
        return dict(vars(self))

    def to_json(self) -> str:
        """Return the event as compact JSON text."""
        return dump_json(self.to_dict())


def sign_event(
    secret_key: str,
    *,
    kind: int,
    content: str,
    tags: Iterable[Sequence[str]] = (),
    created_at: int | None = None,
) -> Event:
    """Return an event signed with a secret key in hex, by default created now."""
    key = coincurve.PrivateKey(bytes.fromhex(secret_key))
    pubkey = key.public_key_xonly.format().hex()
    created_at = int(time.time()) if created_at is None else created_at
    frozen_tags = tuple(tuple(tag) for tag in tags)
    hash = _hash(pubkey, created_at, kind, frozen_tags, content)
    sig = key.sign_schnorr(hash, aux_randomness=os.urandom(32))
    return Event(hash.hex(), pubkey, created_at, kind, frozen_tags, content, sig.hex())


def parse_event(data: object) -> Event:
    """Return the event in decoded JSON, verified. Raises InvalidEvent."""
    event = _read_event(data)
    try:
        hash = _hash(
            event.pubkey, event.created_at, event.kind, event.tags, event.content
        )
        key = _public_key(event.pubkey)
    except ValueError as exc:  # surrogates in a text; a key that is not on the curve
        raise InvalidEvent("the text or the public key is not valid") from exc
    if hash.hex() != event.id:
        raise InvalidEvent("the id is not the hash of the event")
    if not key.verify(bytes.fromhex(event.sig), hash):
        raise InvalidEvent("the signature is wrong")
    return event


def _read_event(data: object) -> Event:
    match data:
        case {
            "id": str(id),
            "pubkey": str(pubkey),
            "created_at": created_at,
            "kind": kind,
            "tags": [*tags],
            "content": str(content),
            "sig": str(sig),
        } if all(map(_is_tag, tags)) and type(created_at) is type(kind) is int:
            frozen_tags = tuple(tuple(tag) for tag in tags)
            event = Event(id, pubkey, created_at, kind, frozen_tags, content, sig)
        case _:
            raise InvalidEvent("this is not a Nostr event")
    if not (HEX.fullmatch(id) and HEX.fullmatch(pubkey) and SIGNATURE.fullmatch(sig)):
        raise InvalidEvent("the id, key or signature is not lower-case hex")
    if created_at not in TIMES or kind not in KINDS:
        raise InvalidEvent("the kind or created_at is out of range")
    return event


def _is_tag(tag: object) -> bool:
    return isinstance(tag, list) and all(isinstance(value, str) for value in tag)


def _hash(*fields: object) -> bytes:
    return hashlib.sha256(dump_json([0, *fields]).encode()).digest()


def _public_key(pubkey: str) -> coincurve.PublicKeyXOnly:
    return coincurve.PublicKeyXOnly(bytes.fromhex(pubkey))


class Scheme(StrEnum):
    """An encryption scheme, named as in NIP-47's `encryption` tag."""

    NIP44 = "nip44_v2"
    NIP04 = "nip04"


def encrypt(scheme: Scheme, secret_key: str, pubkey: str, text: str) -> str:
    """Encrypt a text from one key's owner to another's; keys in hex."""
    secret, public = _key_pair(secret_key, pubkey)
    if scheme is Scheme.NIP44:
        version = nostr_sdk.Nip44Version.V2
        return str(nostr_sdk.nip44_encrypt(secret, public, text, version))
    return str(nostr_sdk.nip04_encrypt(secret, public, text))


def decrypt(scheme: Scheme, secret_key: str, pubkey: str, payload: str) -> str:
    """Decrypt a payload; either party can. Raises Unreadable."""
    nip44 = scheme is Scheme.NIP44
    decrypt = nostr_sdk.nip44_decrypt if nip44 else nostr_sdk.nip04_decrypt
    try:
        return str(decrypt(*_key_pair(secret_key, pubkey), payload))
    except nostr_sdk.NostrSdkError as exc:
        raise Unreadable("This message cannot be decrypted.") from exc


def _key_pair(secret_key: str, pubkey: str) -> tuple[Any, Any]:
    return nostr_sdk.SecretKey.parse(secret_key), nostr_sdk.PublicKey.parse(pubkey)
