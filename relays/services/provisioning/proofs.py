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
    old = old_words(document, replaced or {})
    return all(text == printable(info[word]) for word, text in old.items())


def old_words(document: RelayDocument, replaced: Mapping[str, str]) -> dict[str, str]:
    """Return the words of a document that a write should have replaced."""
    return {
        word: _shown(document, word)
        for word, before in replaced.items()
        if _shown(document, word) == printable(before)
    }


def shown_part(
    document: Shown,
    known: Configuration,
    patch: Configuration,
    *,
    seen: Mapping[str, str],
    identity: Identity,
) -> Configuration:
    """Return the part of a patch that the relay shows as executed.

    `seen` are the words that it showed before the patch. Other words than those and
    ours are newer ones of the owner: then ours count as executed, too.
    """
    part: Configuration = {}
    after = merge(known, patch)
    if shows(document, after, identity=identity):
        switches = {"inactive"} if after.get("inactive") else {"inactive", "host"}
        part = {key: patch[key] for key in switches & patch.keys()}
    is_own = document is not None and identity.has(document)
    if document is None or not is_own:
        return part
    before = {**known.get("info", {}), **seen}
    words = {
        word: text
        for word, text in patch.get("info", {}).items()
        if word in WORDS and _shown(document, word) != printable(before.get(word, ""))
    }
    return {**part, "info": words} if words else part


def has_own_words(document: Shown, part: Configuration) -> bool:
    """Return whether the relay shows a word of ours in a part of a patch."""
    return document is not None and any(
        _shown(document, word) == printable(text)
        for word, text in part.get("info", {}).items()
    )


def _shown(document: RelayDocument, word: str) -> str:
    return str(getattr(document, word))
