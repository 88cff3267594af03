"""Members of relays, read from zooid, which stores them."""

from datetime import datetime
from uuid import UUID

from relays.clients.zooid import Zooid
from relays.exceptions import UnknownRelay
from relays.models import Relay


def list_members(*, relay_id: UUID) -> list[str]:
    """Return the public keys of a relay's members in hex, sorted, without duplicates.

    Calls zooid, which can take seconds. Raises UnknownRelay, ZooidUnavailable or
    ZooidRefused.
    """
    # First, since zooid also answers for relays that are not in our database.
    if not Relay.objects.existing().filter(pk=relay_id).exists():
        raise UnknownRelay("There is no such relay.")
    return sorted({*Zooid().list_members(relay_id)})


def claim_due_counts(*, now: datetime) -> list[UUID]:
    """Return relays whose members have not been counted for a day."""
    raise NotImplementedError


def count_people(*, relay_id: UUID) -> None:
    """Count a relay's people, and report a relay that is over its plan's limit."""
    raise NotImplementedError
