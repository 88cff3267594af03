"""Keys of wallets, derived from a seed, so that URLs survive a restart."""

import hashlib
from dataclasses import dataclass, field
from urllib.parse import urlencode

import coincurve

from sandbox.common.nostr import pubkey_of
from sandbox.common.secrets import track

FIRST = "1"


@dataclass(frozen=True)
class Keys:
    """Secret keys in hex: the wallet's, its client's and its Lightning node's."""

    wallet: str = field(repr=False)
    client: str = field(repr=False)
    node: str = field(repr=False)


def keys_of(seed: str, name: str, label: str = FIRST) -> Keys:
    """Return a wallet's keys, with those of the client with that label."""
    return Keys(
        wallet=_derive(seed, name, "wallet"),
        client=_derive(seed, name, "client", label),
        node=_derive(seed, name, "node"),
    )


def connection_url(keys: Keys, relay: str) -> str:
    """Return the NWC URL of a client (NIP-47)."""
    query = urlencode({"relay": relay, "secret": keys.client})
    return f"nostr+walletconnect://{pubkey_of(keys.wallet)}?{query}"


def node_pubkey(keys: Keys) -> str:
    """Return the compressed public key of the wallet's node, in hex."""
    node = coincurve.PrivateKey(bytes.fromhex(keys.node))
    return node.public_key.format().hex()


def _derive(*parts: str) -> str:
    # About 1 of 2**128 hashes is not a valid secret key: negligible.
    return track(hashlib.sha256("\0".join(parts).encode()).hexdigest())
