"""Settings of a relay: handling of events, and limits."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """Settings; real relays differ in all but the limits."""

    #: Whether expired events (NIP-40) are refused and no longer returned.
    honours_expiration: bool = True
    #: Whether clients must authenticate (NIP-42) before EVENT and REQ.
    requires_auth: bool = False
    #: Whether they must authenticate before REQ; an EVENT needs nothing.
    requires_auth_to_read: bool = False
    #: Whether the challenge follows the first refusal, not the connection.
    late_challenge: bool = False
    #: Whether an AUTH is answered with OK; NIP-42 only says that it should be.
    acknowledges_auth: bool = True
    #: Whether only the author and those in `p` tags get an event, once authenticated.
    serves_own_events: bool = False
    #: Whether a filter without `authors` and `#p` matches nothing, or is refused.
    ignores_broad_filters: bool = False
    refuses_broad_filters: bool = False
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
