"""Who may use a relay: the relay's own list, which only its server knows."""

from uuid import UUID

from relays.clients.zooid import Zooid
from relays.exceptions import UnknownRelay
from relays.models import Relay


def list_members(*, relay_id: UUID) -> list[str]:
    """Return the public keys in hex of a relay's members, sorted, each once.

    Asks zooid, which may take seconds. Raises UnknownRelay, ZooidUnavailable or
    ZooidRefused.
    """
    if not Relay.objects.filter(pk=relay_id).exists():
        raise UnknownRelay("There is no such relay.")
    return sorted({*Zooid().list_members(relay_id)})
