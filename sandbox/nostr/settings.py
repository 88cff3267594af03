"""What a relay is set to: how it treats events, and its limits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """Real relays differ in the first two; the limits are those of NIP-11."""

    #: Whether events past their `expiration` are refused and no longer returned.
    honours_expiration: bool = True
    #: Whether a connection has to prove a key before it sends or asks for events.
    requires_auth: bool = False
    name: str = "Sandbox relay"
    #: A longer message ends the connection with code 1009.
    max_message_bytes: int = 512 * 1024
    #: Open at once on one connection.
    max_subscriptions: int = 1_000
    #: Stored events that one filter returns at most.
    max_limit: int = 5_000
    #: Events that are stored; beyond, the oldest goes, an ephemeral one first.
    max_events: int = 50_000
    #: Events that are remembered as received, the newest.
    max_received: int = 50_000
    #: Lets faults with a chance fall alike in every run.
    seed: int | None = None
