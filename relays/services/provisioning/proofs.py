"""Proofs by NIP-11: what a document says about a relay's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from caravel.nostr import pubkey_of
from relays.clients.nip11 import RelayDocument, printable
from relays.models import Relay
from relays.services.provisioning.configuration import WORDS, Configuration, merge

Shown = RelayDocument | None


@dataclass(frozen=True)
class Identity:
    """Public keys of a relay and of its owner, in hex."""

    relay: str
    owner: str

    @classmethod
    def of(cls, relay: Relay) -> Identity:
        return cls(pubkey_of(relay.secret.reveal()), relay.tenant_id)

    def has(self, document: RelayDocument) -> bool:
        """Return whether a document is this relay's, whoever its owner is there."""
        if document.self_pubkey:
            return document.self_pubkey == self.relay
        # zooid versions before 2025-10 show only the owner.
        return document.pubkey == self.owner


def shows(
    document: Shown,
    config: Configuration | None,
    *,
    identity: Identity,
    replaced: Mapping[str, str] | None = None,
) -> bool:
    """Return whether a document proves that zooid serves a configuration, or nothing.

    `replaced` are words before the last write: while they are shown, zooid has not
    reloaded. Others than ours may be new ones of the owner.
    """
    is_own = document is not None and identity.has(document)
    if config is None or config["inactive"]:
        return not is_own
    info = config["info"]
    if document is None or not is_own or document.pubkey != info["pubkey"]:
        return False
    return not any(
        _shown(document, word) == printable(before) != printable(info[word])
        for word, before in (replaced or {}).items()
    )


def was_patched(
    document: Shown,
    known: Configuration,
    patch: Configuration,
    *,
    identity: Identity,
) -> bool:
    """Return whether a document shows that zooid has executed a patch."""
    after = merge(known, patch)
    if "inactive" in patch or ("host" in patch and not after["inactive"]):
        return shows(document, after, identity=identity)
    if document is None:
        return False
    before, words = known.get("info", {}), patch.get("info", {})
    return any(
        _shown(document, word) == printable(words[word]) != printable(before[word])
        for word in words.keys() & before.keys() & {*WORDS}
    )


def words_of_owner(
    document: Shown, known: Configuration, patch: Configuration
) -> Configuration:
    """Return the words of a patch that the owner has replaced at the relay since.

    The relay shows neither the words before the patch nor those of the patch.
    """
    if document is None:
        return {}
    before, words = known.get("info", {}), patch.get("info", {})
    newer = {
        word: words[word]
        for word in words.keys() & before.keys() & {*WORDS}
        if _shown(document, word)
        not in (printable(words[word]), printable(before[word]))
    }
    return {"info": newer} if newer else {}


def _shown(document: RelayDocument, word: str) -> str:
    return str(getattr(document, word))
