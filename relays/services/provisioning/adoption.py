"""Name, icon and description that the owner may also edit at the relay (NIP-86).

Each field has three states: here (the row), at the relay (its NIP-11 document), and
what zooid has last acknowledged, from which both have started (ADR 41).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from django.db import transaction
from django.utils import timezone

from caravel.core.exceptions import Invalid
from caravel.core.validation import validate_fields
from relays.clients.nip11 import RelayDocument, printable
from relays.models import Relay, RelaySync
from relays.services.provisioning.configuration import (
    WORDS,
    Configuration,
    difference,
    digest,
    dump,
)
from relays.services.provisioning.owner_words import (
    own_description,
    public_description,
)
from relays.services.provisioning.payment_prompt import (
    count_prompts,
    is_due,
    remove_prompts,
)

logger = structlog.get_logger(__name__)

_COLUMNS = (*WORDS, "longer_description", "prompt_removed_at")


def adopt(*, relay_id: UUID, document: RelayDocument, read_at: datetime) -> bool:
    """Store what the owner has changed at the relay, unless it was changed here too.

    Returns whether the row or the acknowledged configuration is different now; compare
    them again then. `read_at` is the time at which the document was requested: one from
    before the last write or look proves nothing, and none does while a write has no
    answer. zooid shows a write some time after its answer: until then, a value that was
    already seen is no edit.
    """
    shown = _words_of(document)
    # Most documents say nothing new, and need no lock.
    if RelaySync.objects.filter(pk=relay_id, words_seen=shown).exists():
        return False
    with transaction.atomic():
        words = _lock(relay_id)
        if words is None or words.sync.sent or _is_outdated(words.sync, read_at):
            return False
        edited = words.edited(shown)
        for field in edited:
            words.merge(field, shown[field])
        words.save(edited, seen=shown, seen_at=read_at)
    if edited:
        logger.info("owner_words_read", relay=str(relay_id), fields=edited)
    return bool(edited)


def is_news(document: RelayDocument, sync: RelaySync) -> bool:
    """Return whether a document has other words than the last one that was read."""
    return bool(_words_of(document) != sync.words_seen)


def must_look_first(relay: Relay, wanted: Configuration, known: Configuration) -> bool:
    """Return whether a write could overwrite what the owner has edited at the relay.

    Later is too late for a relay that goes dark with a prompt: the prompt is taken back
    before anybody can read the words around it again.
    """
    sent = difference(wanted, known).get("info", {}).keys() & {*WORDS}
    description = known.get("info", {}).get("description", "")
    has_prompt = count_prompts(description, relay) > 0
    return bool(sent) or (wanted["inactive"] and has_prompt)


def _words_of(document: RelayDocument) -> dict[str, str]:
    return {field: getattr(document, field) for field in WORDS}


@dataclass
class _Words:
    """The locked rows, and the `info` that zooid has acknowledged."""

    relay: Relay
    sync: RelaySync
    acknowledged: Configuration

    @property
    def info(self) -> dict[str, str]:
        info: dict[str, str] = self.acknowledged.get("info", {})
        return info

    def edited(self, shown: dict[str, str]) -> list[str]:
        """Return the fields that someone has changed at the relay."""
        seen = self.sync.words_seen
        return [
            field
            for field in WORDS
            if field in self.info
            and shown[field] not in (printable(self.info[field]), seen.get(field))
        ]

    def merge(self, field: str, text: str) -> None:
        if field == "description":
            self._merge_description(text)
        elif _is_changed_here(self.relay, field, self.info[field]):
            # The relay has it, and ours is different: it is sent.
            self.info[field] = text
        elif _can_hold(field, text):
            self.info[field] = text
            setattr(self.relay, field, text)

    def save(
        self, edited: Sequence[str], *, seen: dict[str, str], seen_at: datetime
    ) -> None:
        # Without receivers: what was read from the relay need not be sent there.
        if edited:
            Relay.objects.filter(pk=self.relay.pk).update(
                **{column: getattr(self.relay, column) for column in _COLUMNS}
            )
            self.sync.acknowledged = dump(self.acknowledged)
            self.sync.digest = digest(self.acknowledged)
        self.sync.words_seen, self.sync.words_seen_at = seen, seen_at
        columns = ["acknowledged", "digest", "words_seen", "words_seen_at"]
        self.sync.save(update_fields=columns)

    def _merge_description(self, text: str) -> None:
        relay, before = self.relay, self.info["description"]
        is_changed = _is_changed_here(relay, "description", before)
        if count_prompts(before, relay) and not count_prompts(text, relay):
            relay.prompt_removed_at = timezone.now()
        words = remove_prompts(text, relay)
        if not is_changed:
            self._set_description(words)
        is_shown = count_prompts(text, relay) == is_due(relay)
        # Where the owner has moved the prompt, it may stay.
        as_wanted = is_shown and _is_same(words, own_description(relay))
        self.info["description"] = public_description(relay) if as_wanted else text

    def _set_description(self, words: str) -> None:
        relay = self.relay
        if _can_hold("description", words):
            relay.description, relay.longer_description = words, {}
        else:
            kept = {"text": words, "instead_of": relay.description}
            relay.longer_description = kept


def _lock(relay_id: UUID) -> _Words | None:
    # Lock order: the relay before its sync, as when a change makes it stale.
    relays = Relay.objects.existing().select_related("tenant", "plan")
    locked = relays.select_for_update(of=("self",), no_key=True)
    relay = locked.filter(pk=relay_id).first()
    sync = RelaySync.objects.select_for_update().filter(pk=relay_id).first()
    if relay is None or sync is None:
        return None
    acknowledged = json.loads(sync.acknowledged.reveal() or "{}")
    return _Words(relay, sync, acknowledged)


def _is_outdated(sync: RelaySync, read_at: datetime) -> bool:
    later = (sync.acknowledged_at, sync.words_seen_at)
    return any(time is not None and read_at < time for time in later)


def _is_same(one: str, other: str) -> bool:
    return printable(one).strip() == printable(other).strip()


def _is_changed_here(relay: Relay, field: str, acknowledged: str) -> bool:
    """Return whether a field differs from the acknowledged one, prompts aside."""
    if field == "description":
        base = remove_prompts(acknowledged, relay)
        return not _is_same(base, own_description(relay))
    return not _is_same(acknowledged, getattr(relay, field))


def _can_hold(field: str, text: str) -> bool:
    try:
        validate_fields(Relay(**{field: text}), [field])
    except Invalid:
        return False
    return True
