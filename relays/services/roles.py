"""Roles: the keys that manage a relay, and those that only invite members."""

from typing import Any

from caravel.nostr import InvalidPubkey, parse_pubkey
from relays.exceptions import InvalidRole
from relays.models import Relay

#: Fields of a relay that list the keys with a role.
ROLES = ("admins", "moderators")
MAX_KEYS = 20


def parse_keys(value: object) -> list[str]:
    """Convert a list of public keys, hex or npub, to hex. Raises InvalidRole."""
    if not isinstance(value, list):
        raise InvalidRole("This is not a list of public keys.")
    if len(value) > MAX_KEYS:
        raise InvalidRole(f"There can be at most {MAX_KEYS} keys.")
    return [_parse(key, number) for number, key in enumerate(value, start=1)]


def _parse(key: Any, number: int) -> str:
    try:
        return parse_pubkey(key)
    except InvalidPubkey as exc:
        raise InvalidRole(f"Key {number} of the list: {exc.message}") from exc


def require_distinct(relay: Relay) -> None:
    """Raise InvalidRole if a key has two roles, of which the owner is one."""
    keys = [*relay.admins, *relay.moderators]
    if relay.tenant_id in keys:
        raise InvalidRole("The owner can do everything, and needs no other role.")
    if len({*keys}) < len(keys):
        raise InvalidRole("A key can be listed only once, as admin or as moderator.")
