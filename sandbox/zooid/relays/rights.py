"""Rights at a relay, after zooid's `config.go`, `instance.go` and `util.go`.

Groups (NIP-29), invitations and requests to join are not imitated.
"""

from collections.abc import Collection

from sandbox.common.nostr import Event, pubkey_of
from sandbox.zooid.configs import Config
from sandbox.zooid.relays.database import Database

AUTH_REQUIRED = "auth-required: authentication is required for access"
NO_MEMBER = "restricted: you are not a member of this relay"
#: Events that the relay itself writes: members, and their roles.
READ_ONLY = frozenset({8_000, 8_001, 13_534, 33_534})
#: Events that nobody reads: joining, leaving, invitations and push subscriptions.
UNREADABLE = frozenset({28_934, 28_935, 28_936, 30_390})
#: Zaps and gift wraps may be for a member, by anybody.
FOR_MEMBERS = frozenset({9_735, 1_059})
_APP_DATA = 30_078


def can_manage(config: Config, pubkey: str) -> bool:
    """Return whether a key may manage a relay: owner, the relay itself, and roles."""
    if pubkey in (config["info"]["pubkey"], pubkey_of(config["secret"])):
        return True
    return any(
        role.get("can_manage", False)
        for name, role in config.get("roles", {}).items()
        if name == "member" or pubkey in role.get("pubkeys", [])
    )


def reading_refusal(
    config: Config, database: Database, pubkeys: Collection[str]
) -> str | None:
    """Return why a client with these proven keys may not read, or None."""
    if not pubkeys:
        return AUTH_REQUIRED
    if not any(database.is_member(config, pubkey) for pubkey in pubkeys):
        return NO_MEMBER
    return None


def publishing_refusal(
    config: Config, database: Database, event: Event, pubkeys: Collection[str]
) -> str | None:
    """Return why a client with these proven keys may not publish an event, or None."""
    recipients = event.values("p")[:1] if event.kind in FOR_MEMBERS else []
    if any(database.is_member(config, pubkey) for pubkey in recipients):
        return None
    if not pubkeys:
        return AUTH_REQUIRED
    if event.pubkey not in pubkeys:
        return "restricted: you cannot publish events on behalf of others"
    if not database.is_member(config, event.pubkey):
        return NO_MEMBER
    if _is_internal(event) or event.kind in READ_ONLY:
        return "invalid: this event's kind is not accepted"
    return None


def is_readable(event: Event) -> bool:
    """Return whether anybody may read an event, a manager included."""
    return not (event.kind in UNREADABLE or _is_internal(event))


def _is_internal(event: Event) -> bool:
    """Return whether zooid keeps an event for itself: what it has banned."""
    names = event.values("d")[:1] if event.kind == _APP_DATA else []
    return any(name.startswith("zooid/") for name in names)
