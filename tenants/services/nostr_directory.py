"""Lookup of users' replaceable events: at indexers and at their write relays."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

from caravel.core.db.transactions import release_connection
from caravel.nostr.events import Event
from caravel.nostr.relay_lists import RELAY_LIST, in_batches, latest, write_relays
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.pool import pool_for
from tenants.services.nostr_identity import indexers

#: Seconds to wait for the relays.
_TIMEOUT = 8.0


@dataclass(frozen=True)
class Lookup:
    """Result of a lookup: the event, or None if none was found.

    None proves that no event exists only if the lookup `is_complete`.
    """

    event: Event | None
    is_complete: bool


def fetch_latest_event(pubkey: str, kind: int) -> Lookup:
    """Return a user's latest event of a replaceable kind.

    The lookup is complete if an indexer answered, and one of the user's write relays
    (NIP-65) if the user has any.
    """
    release_connection()
    events, indexer_answered = _fetch(indexers(), pubkey, [RELAY_LIST, kind])
    relay_list = latest(events, pubkey=pubkey, kind=RELAY_LIST)
    # NIP-65: a user's events are at the user's write relays; indexers may lack some.
    outbox_events, outbox_answered = (
        _fetch_from_outbox(relay_list, kind) if relay_list else ([], True)
    )
    event = latest([*events, *outbox_events], pubkey=pubkey, kind=kind)
    return Lookup(event, is_complete=indexer_answered and outbox_answered)


def untrusted_endpoints(urls: Sequence[str]) -> list[Endpoint]:
    """Return endpoints of relays that a third party has named."""
    # Private addresses are refused by default (SSRF).
    allowed = settings.NOSTR_ALLOW_PRIVATE_RELAYS
    return [Endpoint(url, private_allowed=allowed) for url in urls]


def _fetch_from_outbox(relay_list: Event, kind: int) -> tuple[list[Event], bool]:
    """Return the events at the first of the author's write relays that answer."""
    private_allowed = settings.NOSTR_ALLOW_PRIVATE_RELAYS
    relays = write_relays(relay_list, private_allowed=private_allowed)
    for batch in in_batches(relays):
        events, answered = _fetch(untrusted_endpoints(batch), relay_list.pubkey, [kind])
        if answered:
            return events, True
    return [], not relays


def _fetch(
    endpoints: list[Endpoint], pubkey: str, kinds: list[int]
) -> tuple[list[Event], bool]:
    """Return the events that relays have, and whether any of them answered."""
    filters = [{"authors": [pubkey], "kinds": kinds}]
    try:
        result = pool_for(endpoints).fetch(
            endpoints, filters, timeout=_TIMEOUT, secret_key=settings.ROBOT_SECRET
        )
    except RelayUnreachable:
        return [], False
    return list(result.events), result.answered
