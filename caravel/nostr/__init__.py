"""Nostr: keys, events, encryption and relay connections.

Nothing here knows of wallets, tenants or money.
"""

from caravel.nostr.keys import (
    InvalidPubkey,
    generate_secret_key,
    hex_beginning,
    is_secret_key,
    npub,
    parse_pubkey,
    pubkey_of,
    short_npub,
)

__all__ = [
    "InvalidPubkey",
    "generate_secret_key",
    "hex_beginning",
    "is_secret_key",
    "npub",
    "parse_pubkey",
    "pubkey_of",
    "short_npub",
]
