"""Name, icon and description that the owner may also edit at the relay (NIP-86)."""

from uuid import UUID

from relays.clients.nip11 import RelayDocument
from relays.models import Relay


def adopt(*, relay_id: UUID, document: RelayDocument) -> None:
    """Store what the owner has changed at the relay, unless it was changed here too."""
    raise NotImplementedError


def public_description(relay: Relay) -> str:
    """Return the description to show: the owner's, and a prompt while past due."""
    return relay.description
