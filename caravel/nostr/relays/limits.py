"""Limits on the cost of the relays of one pool."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of all relays of a pool together, and of each.

    `time_share` is the part of a CPU for all of them. A message of more than
    `max_message` characters is not parsed.
    A connection without a subscription is closed after `idle_timeout` seconds.
    """

    time_share: float
    max_message: int
    max_connections: int
    max_connections_per_host: int
    idle_timeout: float


#: Relays that the operator has named.
OURS = Limits(
    time_share=0.5,
    max_message=512 * 1024,
    max_connections=100,
    max_connections_per_host=100,
    idle_timeout=120.0,
)
#: Relays that tenants have named. A wallet's reply and a list of relays are a few KiB
#: long. A tenant names at most 45 relays (relay_lists.py, nwc_uri.py), so that one
#: alone cannot have all connections. Some services give each wallet a URL of its own at
#: one host (wss://nwc.primal.net/...): there must be room for as many payments as the
#: network worker makes at once (Procfile).
STRANGERS = Limits(
    time_share=0.2,
    max_message=64 * 1024,
    max_connections=300,
    max_connections_per_host=150,
    idle_timeout=10.0,
)
