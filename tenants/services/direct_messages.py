"""Delivery of private messages to the relays where the recipient reads them."""

from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.core.cache import cache

from caravel.nostr.events import parse_event
from caravel.nostr.relay_lists import MESSAGE_RELAYS, in_batches, message_relays
from caravel.nostr.relays.dial import Endpoint
from tenants.exceptions import NotDelivered
from tenants.services.nostr_directory import fetch_latest_event, untrusted_endpoints
from tenants.services.nostr_identity import outbox, publish

#: Number of failed attempts after which our own relays are used as a fallback.
_FALLBACK_AFTER = 2
_CACHE_SECONDS = 300
_FALLBACK_NOTE = "Fell back to our outbox relays: "


@dataclass(frozen=True)
class DeliveryReport:
    """Relays that accepted a message, and a note for support."""

    relays: list[str]
    note: str


@dataclass(frozen=True)
class _Inbox:
    """The recipient's relays; without any, why, and whether that is certain."""

    relays: list[str]
    problem: str = ""
    is_certain: bool = False


@dataclass(frozen=True)
class _Route:
    endpoints: list[Endpoint]
    note: str = ""


def send_message(
    wrap: object,
    pubkey: str,
    *,
    failures: int,
    is_wanted: Callable[[], bool],
) -> DeliveryReport | None:
    """Publish a gift wrap to the recipient's relays, or to ours as a fallback.

    Returns None if `is_wanted` returns False right before the event is sent. Raises
    NotDelivered if no relay accepts the event.
    """
    event = parse_event(wrap)
    for route in _routes(pubkey, failures):
        if not is_wanted():
            return None
        if relays := publish(route.endpoints, event):
            return DeliveryReport(relays, route.note)
    # The cached list may be outdated: the next attempt looks it up again.
    cache.delete(_cache_key(pubkey))
    raise NotDelivered("No relay accepted the message.")


def _routes(pubkey: str, failures: int) -> list[_Route]:
    """Return the recipient's relays, then ours if a fallback is justified."""
    inbox = _fetch_inbox(pubkey)
    batches = in_batches(inbox.relays)
    routes = [_Route(untrusted_endpoints(batch)) for batch in batches]
    reason = inbox.problem or "none of the recipient's relays accepted it."
    # At once only if there is certainly no relay; otherwise one may just be down.
    if failures >= _FALLBACK_AFTER or inbox.is_certain:
        routes.append(_Route(outbox(), _FALLBACK_NOTE + reason))
    return routes


def _fetch_inbox(pubkey: str) -> _Inbox:
    """Return a user's relays for messages."""
    # Cached in the process: notices come in bursts, and a lookup takes seconds. A
    # missing list is not cached, so that a new list is used at once.
    cached: list[str] | None = cache.get(_cache_key(pubkey))
    if cached:
        return _Inbox(cached)
    lookup = fetch_latest_event(pubkey, MESSAGE_RELAYS)
    if lookup.event is None:
        if lookup.is_complete:
            return _Inbox([], "the recipient has no kind 10050.", is_certain=True)
        return _Inbox([], "the recipient's kind 10050 could not be looked up.")
    allowed = settings.NOSTR_ALLOW_PRIVATE_RELAYS
    relays = message_relays(lookup.event, private_allowed=allowed)
    if not relays:
        problem = "the recipient's kind 10050 names no public relay."
        return _Inbox([], problem, lookup.is_complete)
    cache.set(_cache_key(pubkey), relays, _CACHE_SECONDS)
    return _Inbox(relays)


def _cache_key(pubkey: str) -> str:
    return f"message-relays:{pubkey}"
