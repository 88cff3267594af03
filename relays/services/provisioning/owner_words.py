"""Words of a relay's owner, as everybody sees them at the relay."""

from relays.models import Relay
from relays.services.provisioning.payment_prompt import add_prompt, is_due


def public_description(relay: Relay) -> str:
    """Return the description to show: the owner's, and a prompt while past due."""
    words = own_description(relay)
    return add_prompt(words, relay) if is_due(relay) else words


def own_description(relay: Relay) -> str:
    """Return the owner's description: at the relay it may be longer than in the row."""
    longer: dict[str, str] = relay.longer_description
    is_current = longer.get("instead_of") == relay.description
    return longer["text"] if is_current else relay.description
