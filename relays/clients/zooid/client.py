"""Client of zooid's management API, signed by the robot (NIP-98)."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

from relays.clients.zooid import errors
from relays.clients.zooid.request import Response, get, json_or_none, write
from relays.exceptions import ZooidRefused

Config = Mapping[str, Any]
_PUBKEY = re.compile(r"[0-9a-f]{64}")


class Zooid:
    """Calls to zooid. Each raises ZooidUnavailable or ZooidRefused.

    Calls that write raise ZooidOutcomeUnknown, a ZooidUnavailable, if zooid may have
    done it. Do not call inside a transaction.
    """

    def create_relay(self, relay_id: UUID, config: Config) -> None:
        """Create a relay. Raises RelayExists, HostTaken or SchemaTaken."""
        response = write("POST", f"/relay/{relay_id}", config)
        errors.require_done(response, HTTPStatus.CREATED)

    def patch_relay(self, relay_id: UUID, patch: Config) -> None:
        """Change the fields in `patch`. Raises RelayMissing, HostTaken or SchemaTaken.

        zooid merges objects, and replaces a list as a whole; null deletes a field.
        """
        response = write("PATCH", f"/relay/{relay_id}", patch)
        errors.require_relay(response)
        errors.require_done(response)

    def delete_relay(self, relay_id: UUID) -> bool:
        """Delete a relay's configuration; zooid keeps its events and media.

        Returns False if zooid had none.
        """
        response = write("DELETE", f"/relay/{relay_id}")
        if errors.lacks_relay(response):
            return False
        errors.require_done(response)
        return True

    def has_relay(self, relay_id: UUID) -> bool:
        """Return whether zooid has a configuration of the relay, active or not.

        Returns True if its version cannot tell, before 2026-04: a PATCH will.
        """
        response = get(f"/relay/{relay_id}/members")
        if response.status == HTTPStatus.METHOD_NOT_ALLOWED:
            return True
        if errors.lacks_relay(response):
            return False
        errors.require_ok(response)
        _members(response)
        return True

    def list_members(self, relay_id: UUID) -> list[str]:
        """Return the public keys of a relay's members in hex, in zooid's order.

        Returns an empty list for a relay that zooid does not know.
        """
        response = get(f"/relay/{relay_id}/members")
        if errors.lacks_relay(response):
            return []
        errors.require_ok(response)
        return _members(response)


def _members(response: Response) -> list[str]:
    content = json_or_none(response)
    members = content.get("members", "") if isinstance(content, dict) else ""
    if members is None:  # Go encodes a nil slice as null
        return []
    if not isinstance(members, list) or not all(
        isinstance(member, str) and _PUBKEY.fullmatch(member) for member in members
    ):
        raise ZooidRefused("zooid's response is not a list of members.")
    return members
