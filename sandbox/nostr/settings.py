"""Settings of a relay: handling of events, and limits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """Settings; real relays differ in the first two."""

    #: Whether expired events (NIP-40) are refused and no longer returned.
    honours_expiration: bool = True
    #: Whether clients must authenticate (NIP-42) before EVENT and REQ.
    requires_auth: bool = False
    #: A longer message closes the connection with code 1009.
    max_message_bytes: int = 512 * 1024
    #: Per connection.
    max_subscriptions: int = 1_000
    #: The maximum number of stored events per filter.
    max_limit: int = 5_000
    #: Beyond this the oldest event is deleted, ephemeral ones first.
    max_events: int = 50_000
    #: Only this number of received events is recorded, the newest.
    max_received: int = 50_000
    #: Makes faults with a chance reproducible.
    seed: int | None = None
