"""Nostr: keys, events, encryption and relay connections.

Independent of wallets, tenants and billing.
"""

from caravel.nostr.keys import (
    InvalidPubkey,
    generate_secret_key,
    is_secret_key,
    npub,
    npub_prefix_to_hex,
    parse_pubkey,
    pubkey_of,
    short_npub,
)

__all__ = [
    "InvalidPubkey",
    "generate_secret_key",
    "is_secret_key",
    "npub",
    "npub_prefix_to_hex",
    "parse_pubkey",
    "pubkey_of",
    "short_npub",
]
