"""Finding what somebody says of themselves: at the indexers, and where they write."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

from caravel.core.db.transactions import release_connection
from caravel.nostr.events import Event
from caravel.nostr.relay_lists import RELAY_LIST, latest, write_relays
from caravel.nostr.relays.dial import Endpoint, RelayUnreachable
from caravel.nostr.relays.pool import get_pool
from tenants.services.nostr_identity import indexers

#: Seconds that relays have to answer.
_TIMEOUT = 8.0


@dataclass(frozen=True)
class Lookup:
    """Somebody's event of a kind, or none; none proves nothing unless `certain`."""

    event: Event | None
    certain: bool


def fetch_latest_event(pubkey: str, kind: int) -> Lookup:
    """Return the newest event of a replaceable kind that can be found.

    It is certain when an indexer answered, and, if there is a list of relays that its
    author writes to (NIP-65), one of these did.
    """
    release_connection()
    events, indexed = _ask(indexers(), pubkey, [RELAY_LIST, kind])
    relay_list = latest(events, pubkey=pubkey, kind=RELAY_LIST)
    written = untrusted_endpoints(write_relays(relay_list)) if relay_list else []
    more, answered = _ask(written, pubkey, [kind]) if written else ([], True)
    event = latest([*events, *more], pubkey=pubkey, kind=kind)
    return Lookup(event, certain=indexed and answered)


def untrusted_endpoints(urls: Sequence[str]) -> list[Endpoint]:
    """Return relays that somebody else names: not to be looked for in our network."""
    allowed = settings.NOSTR_ALLOW_PRIVATE_RELAYS
    return [Endpoint(url, private_allowed=allowed) for url in urls]


def _ask(
    endpoints: list[Endpoint], pubkey: str, kinds: list[int]
) -> tuple[list[Event], bool]:
    """Return the events that relays have, and whether any of them answered."""
    wanted = [{"authors": [pubkey], "kinds": kinds}]
    try:
        stored = get_pool().fetch(endpoints, wanted, timeout=_TIMEOUT)
    except RelayUnreachable:
        return [], False
    return list(stored.events), stored.answered
