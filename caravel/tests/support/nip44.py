"""Reference implementation of NIP-44 version 2, to test encryption with fixed nonces.

https://github.com/nostr-protocol/nips/blob/master/44.md
"""

import base64
import hmac
from dataclasses import dataclass

from coincurve import PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand


@dataclass(frozen=True)
class MessageKeys:
    """Keys of one message, in hex."""

    chacha_key: str
    chacha_nonce: str
    hmac_key: str


def conversation_key(secret_key: str, pubkey: str) -> str:
    """Return the key that two parties share; all keys are hex."""
    point = PublicKey(b"\x02" + bytes.fromhex(pubkey))
    shared_x = point.multiply(bytes.fromhex(secret_key)).format()[1:]
    return hmac.new(b"nip44-v2", shared_x, "sha256").hexdigest()


def message_keys(key: str, nonce: str) -> MessageKeys:
    """Return the keys of the message with this nonce."""
    expand = HKDFExpand(algorithm=SHA256(), length=76, info=bytes.fromhex(nonce))
    keys = expand.derive(bytes.fromhex(key))
    return MessageKeys(keys[:32].hex(), keys[32:44].hex(), keys[44:].hex())


def padded_length(length: int) -> int:
    """Return the length of a text after padding, without its prefix."""
    chunk = max(32, (1 << (length - 1).bit_length()) // 8)
    return chunk * -(-length // chunk)


def pad(text: str) -> bytes:
    """Return the text with its length before it and zeros behind."""
    content = text.encode()
    padding = bytes(padded_length(len(content)) - len(content))
    return len(content).to_bytes(2, "big") + content + padding


def encrypt_padded(key: str, nonce: str, padded: bytes) -> str:
    """Return the payload of a padded text, which need not be padded rightly."""
    keys = message_keys(key, nonce)
    content = bytes.fromhex(nonce) + _chacha20(keys, padded)
    mac = hmac.digest(bytes.fromhex(keys.hmac_key), content, "sha256")
    return base64.b64encode(b"\x02" + content + mac).decode()


def decrypt_padded(key: str, payload: str) -> bytes:
    """Return the padded text of a payload, without a check of its MAC."""
    content = base64.b64decode(payload)
    keys = message_keys(key, content[1:33].hex())
    return _chacha20(keys, content[33:-32])


def _chacha20(keys: MessageKeys, data: bytes) -> bytes:
    # The library's nonce begins with the counter, which is zero.
    nonce = bytes(4) + bytes.fromhex(keys.chacha_nonce)
    chacha20 = algorithms.ChaCha20(bytes.fromhex(keys.chacha_key), nonce)
    return Cipher(chacha20, None).encryptor().update(data)
