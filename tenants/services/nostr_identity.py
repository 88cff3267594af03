"""The robot: what Caravel is on Nostr, which relays are its own, what it publishes."""

import json

import structlog
from django.conf import settings

from caravel.core.db.transactions import release_connection
from caravel.nostr.events import Event, sign_event
from caravel.nostr.relay_lists import MESSAGE_RELAYS, RELAY_LIST
from caravel.nostr.relays.dial import Endpoint
from caravel.nostr.relays.pool import get_pool
from tenants.exceptions import IdentityNotPublished

logger = structlog.get_logger(__name__)

PROFILE = 0
#: Seconds that relays have to take an event.
PUBLISH_TIMEOUT = 10.0


def outbox() -> list[Endpoint]:
    """Return the relays that we write to; ours may have private addresses."""
    return _ours(settings.ROBOT_OUTBOX_RELAYS)


def indexers() -> list[Endpoint]:
    """Return the relays that know where people are to be found."""
    return _ours(settings.ROBOT_INDEXER_RELAYS)


def publish(endpoints: list[Endpoint], event: Event) -> list[str]:
    """Send an event to relays; return the hosts of those that took it."""
    release_connection()
    return get_pool().publish(
        endpoints,
        event,
        timeout=PUBLISH_TIMEOUT,
        secret_key=settings.ROBOT_SECRET,
    )


def publish_identity() -> None:
    """Publish our profile and our relays where people look for them.

    Of these kinds the newest counts (NIP-01), so they are signed anew each time: what
    changed in the settings wins, and a relay that lost them has them back. Raises
    IdentityNotPublished if no relay at all took one of them.
    """
    everywhere = list(dict.fromkeys([*outbox(), *indexers()]))
    missing = []
    for event in _identity():
        hosts = publish(everywhere, event)
        logger.info("identity_published", kind=event.kind, relays=hosts)
        if not hosts:
            missing.append(str(event.kind))
    if missing:
        raise IdentityNotPublished(f"No relay took kind {', '.join(missing)}.")


def _identity() -> list[Event]:
    """Return the profile, the relays we write to (NIP-65), those for messages to us."""
    written = [("r", url, "write") for url in settings.ROBOT_OUTBOX_RELAYS]
    read = [("relay", url) for url in settings.ROBOT_MESSAGING_RELAYS]
    secret = settings.ROBOT_SECRET
    return [
        sign_event(secret, kind=PROFILE, content=json.dumps(_profile())),
        sign_event(secret, kind=RELAY_LIST, content="", tags=written),
        sign_event(secret, kind=MESSAGE_RELAYS, content="", tags=read),
    ]


def _profile() -> dict[str, object]:
    """Return what people see of us; `bot` says that no person writes (NIP-24)."""
    given = {
        "name": settings.ROBOT_NAME,
        "about": settings.ROBOT_DESCRIPTION,
        "picture": settings.ROBOT_PICTURE,
    }
    return {**{k: v for k, v in given.items() if v}, "bot": True}


def _ours(urls: list[str]) -> list[Endpoint]:
    return [Endpoint(url, private_allowed=True) for url in urls]
