"""Sending a private message to the relays where its recipient looks for them."""

from collections.abc import Callable
from dataclasses import dataclass

from django.core.cache import cache

from caravel.nostr.events import parse_event
from caravel.nostr.relay_lists import MESSAGE_RELAYS, message_relays
from caravel.nostr.relays.dial import Endpoint
from tenants.exceptions import NotDelivered
from tenants.services.nostr_directory import fetch_latest_event, untrusted_endpoints
from tenants.services.nostr_identity import outbox, publish

#: On which try, from 0, a message is left at our own relays rather than kept waiting.
_LAST_RESORT = 2
_FIVE_MINUTES = 300
_FELL_BACK = "Fell back to our outbox relays: "


@dataclass(frozen=True)
class DeliveryReport:
    """Which relays took a message, and what support should know of that."""

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
    tries: int,
    is_wanted: Callable[[], bool],
) -> DeliveryReport | None:
    """Publish a gift wrap to its recipient's relays; None if it is not wanted any more.

    Without relays of theirs, and from the third try on if none takes it or nothing is
    known of them, it is left at our own. Raises NotDelivered when nobody has it.
    """
    event = parse_event(wrap)
    for route in _routes(pubkey, tries):
        if not is_wanted():
            return None
        if relays := publish(route.endpoints, event):
            return DeliveryReport(relays, route.note)
    _forget(pubkey)
    raise NotDelivered("No relay took the message.")


def _routes(pubkey: str, tries: int) -> list[_Route]:
    """Return where to leave a message, the best place first."""
    relays, certain = _relays_of(pubkey)
    ours = outbox()
    if relays:
        first = [_Route(untrusted_endpoints(relays))]
        reason = "none of the recipient's relays took it."
    else:
        first = []
        reason = "the recipient has no kind 10050."
        if not certain:
            reason = "the recipient's kind 10050 could not be looked up."
    may_fall_back = tries >= _LAST_RESORT or (certain and not relays)
    return [*first, *([_Route(ours, _FELL_BACK + reason)] if may_fall_back else [])]


def _relays_of(pubkey: str) -> tuple[list[str], bool]:
    """Return the relays somebody wants messages on, and whether it is certain.

    They are kept for five minutes, in the memory of the process: it is asked for by the
    threads of one worker in bursts, and to look again costs seconds, no more. What was
    not found is not kept, so that a list published meanwhile counts at once.
    """
    kept: list[str] | None = cache.get(_key(pubkey))
    if kept:
        return kept, True
    found = fetch_latest_event(pubkey, MESSAGE_RELAYS)
    relays = message_relays(found.event) if found.event else []
    if relays:
        cache.set(_key(pubkey), relays, _FIVE_MINUTES)
    return relays, found.certain


def _forget(pubkey: str) -> None:
    cache.delete(_key(pubkey))


def _key(pubkey: str) -> str:
    return f"message-relays:{pubkey}"
