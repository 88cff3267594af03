"""Relay lists of users: where they write (NIP-65), and receive messages (NIP-17).

The lists are untrusted input: URLs that are invalid, or that can never be dialled, are
skipped, and long lists are cut.
"""

from collections.abc import Iterable

from caravel.nostr.events import Event
from caravel.nostr.relays.dial import may_answer, normalize_relay_url

#: Kinds of the relay list (NIP-65) and of the list of relays for messages (NIP-17).
RELAY_LIST, MESSAGE_RELAYS = 10002, 10050
#: Maximum number of relays that are used from a user's list, and of those at once: dead
#: ones must not keep the others from being tried.
MAX_RELAYS, MAX_AT_ONCE = 20, 5
_MAX_URL_LENGTH = 200


def latest(events: Iterable[Event], *, pubkey: str, kind: int) -> Event | None:
    """Return the latest event of a replaceable kind, or None.

    Of two with the same time, the lower id wins (NIP-01).
    """
    matching = [e for e in events if e.pubkey == pubkey and e.kind == kind]
    return min(matching, key=lambda event: (-event.created_at, event.id), default=None)


def write_relays(relay_list: Event, *, private_allowed: bool) -> list[str]:
    """Return the author's write relays: those marked `write` or not marked."""
    urls = (
        tag[1]
        for tag in relay_list.tags
        if tag[:1] == ("r",) and len(tag) > 1 and tag[2:3] in ((), ("",), ("write",))
    )
    return _usable_relays(urls, private_allowed)


def message_relays(event: Event, *, private_allowed: bool) -> list[str]:
    """Return the relays where the author receives messages."""
    return _usable_relays(event.values("relay"), private_allowed)


def in_batches(relays: list[str]) -> list[list[str]]:
    """Return the relays in groups that are tried one after the other."""
    starts = range(0, len(relays), MAX_AT_ONCE)
    return [relays[start : start + MAX_AT_ONCE] for start in starts]


def _usable_relays(urls: Iterable[str], private_allowed: bool) -> list[str]:
    relays = dict.fromkeys(filter(None, map(_normalize, urls)))
    usable = [r for r in relays if may_answer(r, private_allowed=private_allowed)]
    return usable[:MAX_RELAYS]


def _normalize(url: str) -> str:
    """Return the normalized URL without a trailing slash, or "" if it is invalid."""
    url = url.strip()
    if not url.isascii() or len(url) > _MAX_URL_LENGTH:
        return ""
    return normalize_relay_url(url).rstrip("/")
