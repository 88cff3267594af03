"""NIP-11 documents: the proof that a relay is served, and as whom.

https://github.com/nostr-protocol/nips/blob/master/11.md
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from relays.exceptions import RelayUnreachable


@dataclass(frozen=True)
class RelayDocument:
    """NIP-11 document of a relay; "" for a field that it leaves out."""

    name: str
    description: str
    icon: str
    #: Public key of the owner, in hex.
    pubkey: str
    #: Public key of the relay, in hex; zooid versions before 2025-10 do not name it.
    self_pubkey: str


#: The document, None if no relay is served under the name, or why neither is known.
Probe = RelayDocument | RelayUnreachable | None


def fetch_document(host: str) -> RelayDocument | None:
    """Return the document of the relay at `host`, None if none is served there (404).

    Raises RelayUnreachable if the answer proves neither.
    """
    raise NotImplementedError


def fetch_documents(hosts: Sequence[str]) -> Mapping[str, Probe]:
    """Fetch the documents of many hosts at once, a bounded number at a time."""
    raise NotImplementedError
