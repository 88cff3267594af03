"""Delivery of private messages to the relays where the recipient reads them."""

from collections.abc import Callable
from dataclasses import dataclass

from django.core.cache import cache

from caravel.nostr.events import parse_event
from caravel.nostr.relay_lists import MESSAGE_RELAYS, message_relays
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
    relays, is_complete = _message_relays(pubkey)
    routes = [_Route(untrusted_endpoints(relays))] if relays else []
    if relays:
        reason = "none of the recipient's relays accepted it."
    elif is_complete:
        reason = "the recipient has no kind 10050."
    else:
        reason = "the recipient's kind 10050 could not be looked up."
    # At once only if there is certainly no list; otherwise a relay may just be down.
    if failures >= _FALLBACK_AFTER or (is_complete and not relays):
        routes.append(_Route(outbox(), _FALLBACK_NOTE + reason))
    return routes


def _message_relays(pubkey: str) -> tuple[list[str], bool]:
    """Return a user's relays for messages, and whether the lookup was complete."""
    # Cached in the process: notices come in bursts, and a lookup takes seconds. A
    # missing list is not cached, so that a new list is used at once.
    cached: list[str] | None = cache.get(_cache_key(pubkey))
    if cached:
        return cached, True
    lookup = fetch_latest_event(pubkey, MESSAGE_RELAYS)
    relays = message_relays(lookup.event) if lookup.event else []
    if relays:
        cache.set(_cache_key(pubkey), relays, _CACHE_SECONDS)
    return relays, lookup.is_complete


def _cache_key(pubkey: str) -> str:
    return f"message-relays:{pubkey}"
