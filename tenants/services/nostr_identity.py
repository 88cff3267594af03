"""The robot, Caravel's Nostr identity: its relays, profile and publishing."""

import json

import structlog
from django.conf import settings

from caravel.core.db.transactions import release_connection
from caravel.nostr.events import Event, sign_event
from caravel.nostr.relay_lists import MESSAGE_RELAYS, RELAY_LIST
from caravel.nostr.relays.dial import Endpoint
from caravel.nostr.relays.pool import pool_for
from tenants.exceptions import IdentityNotPublished

logger = structlog.get_logger(__name__)

PROFILE = 0
#: Seconds to wait for relays to accept an event.
PUBLISH_TIMEOUT = 10.0


def outbox() -> list[Endpoint]:
    """Return our write relays (NIP-65)."""
    return _trusted_endpoints(settings.ROBOT_OUTBOX_RELAYS)


def indexers() -> list[Endpoint]:
    """Return the relays that index users' relay lists and profiles."""
    return _trusted_endpoints(settings.ROBOT_INDEXER_RELAYS)


def publish(endpoints: list[Endpoint], event: Event) -> list[str]:
    """Send an event to relays; return the hosts of those that accepted it."""
    release_connection()
    return pool_for(endpoints).publish(
        endpoints,
        event,
        timeout=PUBLISH_TIMEOUT,
        secret_key=settings.ROBOT_SECRET,
    )


def publish_identity() -> None:
    """Publish our profile and relay lists to our relays and the indexers.

    Raises IdentityNotPublished if no relay accepted one of the events.
    """
    endpoints = list(dict.fromkeys([*outbox(), *indexers()]))
    missing = []
    # Replaceable events: the latest one counts (NIP-01). New ones each time, so that
    # changed settings apply, and relays that lost an event get it again.
    for event in _identity_events():
        hosts = publish(endpoints, event)
        logger.info("identity_published", kind=event.kind, relays=hosts)
        if not hosts:
            missing.append(str(event.kind))
    if missing:
        raise IdentityNotPublished(f"No relay accepted kind {', '.join(missing)}.")


def _identity_events() -> list[Event]:
    """Return the profile, the relay list (NIP-65) and the message relays (NIP-17)."""
    write = [("r", url, "write") for url in settings.ROBOT_OUTBOX_RELAYS]
    inbox = [("relay", url) for url in settings.ROBOT_MESSAGING_RELAYS]
    secret = settings.ROBOT_SECRET
    return [
        sign_event(secret, kind=PROFILE, content=json.dumps(_profile())),
        sign_event(secret, kind=RELAY_LIST, content="", tags=write),
        sign_event(secret, kind=MESSAGE_RELAYS, content="", tags=inbox),
    ]


def _profile() -> dict[str, object]:
    fields = {
        "name": settings.ROBOT_NAME,
        "about": settings.ROBOT_DESCRIPTION,
        "picture": settings.ROBOT_PICTURE,
    }
    # `bot`: messages are not written by a person (NIP-24).
    return {**{k: v for k, v in fields.items() if v}, "bot": True}


def _trusted_endpoints(urls: list[str]) -> list[Endpoint]:
    # Named by the operator, so they may have private addresses.
    return [Endpoint(url, private_allowed=True, is_ours=True) for url in urls]
