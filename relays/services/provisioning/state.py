"""Knowledge of one relay at zooid: each change of it is stored at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Prefetch, QuerySet
from django.utils import timezone

from caravel.core.db.leases import Lease
from caravel.core.exceptions import LeaseLost
from relays.models import Relay, RelayExport, RelaySync
from relays.services.provisioning.configuration import (
    WORDS,
    Configuration,
    desired,
    digest,
    dump,
    merge,
    public_host,
)
from relays.services.provisioning.proofs import Identity, Shown, old_words

#: zooid's file watcher rebuilds a relay some time after it has acknowledged a write.
RELOAD_TIME = timedelta(minutes=1)


class Sent(NamedTuple):
    """Write that left, and has no answer yet: zooid may have executed it."""

    method: str
    body: Configuration
    #: Whether an earlier one had no answer either: part of this body may be its.
    is_repeated: bool = False


@dataclass
class SyncState:
    """State of one sync, while it holds the lease."""

    lease: Lease
    relay: Relay
    wanted: Configuration | None
    #: Of the acknowledged configuration, all that is certain; None: zooid has none.
    known: Configuration | None
    sent: Sent | None
    acknowledged_at: datetime | None
    unproven: dict[str, Any]
    #: Words that the relay showed when it was last looked at.
    words_seen: dict[str, str]
    failures: int
    #: When its document was last requested.
    looked_at: datetime
    #: Whether this sync has changed something at zooid.
    is_changed: bool = False

    @classmethod
    def read(cls, lease: Lease) -> SyncState:
        """Return the present state. Raises RelayMisconfigured or Undecryptable."""
        # The sync first: a change of the relay in between is synced once more.
        sync: RelaySync = RelaySync.objects.get(pk=lease.pk)
        relay = with_configuration(Relay.objects.filter(pk=lease.pk)).get()
        sent = sync.sent.reveal()
        return cls(
            lease=lease,
            relay=relay,
            wanted=desired(relay),
            known=load(sync),
            sent=Sent(*json.loads(sent)) if sent else None,
            acknowledged_at=sync.acknowledged_at,
            unproven=sync.unproven,
            words_seen=sync.words_seen,
            failures=sync.failures,
            looked_at=timezone.now(),
        )

    def reload(self) -> None:
        """Read again what the owner has changed at the relay."""
        fresh = self.read(self.lease)
        self.relay, self.wanted, self.known = fresh.relay, fresh.wanted, fresh.known
        self.words_seen = fresh.words_seen

    @property
    def identity(self) -> Identity:
        return Identity.of(self.relay)

    @property
    def host(self) -> str:
        """The name under which the relay has to be served, or not any more."""
        return self.wanted["host"] if self.wanted else public_host(self.relay)

    @property
    def is_reloading(self) -> bool:
        """True while zooid may still have to rebuild the relay after a write."""
        if self.acknowledged_at is None:
            return False
        return timezone.now() < self.acknowledged_at + RELOAD_TIME

    def record_sent(self, method: str, body: Configuration) -> None:
        """Store a write before it leaves. Raises LeaseLost."""
        self.lease.renew()
        self.sent = Sent(method, body, is_repeated=self.sent is not None)
        self._update(sent=dump(self.sent))

    def clear_sent(self) -> None:
        """Store that zooid has not executed the write. Raises LeaseLost."""
        self._update(sent="")
        self.sent = None

    def acknowledge(self, config: Configuration | None) -> None:
        """Store a configuration as the one that zooid has. Raises LeaseLost."""
        self._store(config, {})

    def acknowledge_patch(self, patch: Configuration) -> None:
        """Store a patch as merged by zooid. Raises LeaseLost."""
        known = (self.known or {}).get("info", {})
        changed = patch.get("info", {}).keys() & known.keys() & {*WORDS}
        before = {word: self.words_seen.get(word, known[word]) for word in changed}
        with transaction.atomic():
            sync = self._lock()
            # As stored: words of the owner may have been adopted meanwhile.
            self._store(merge(load(sync) or {}, patch), before)

    def correct(self, shown: Configuration) -> None:
        """Store what the relay shows in place of what zooid has acknowledged."""
        with transaction.atomic():
            sync = self._lock()
            corrected = merge(load(sync) or {}, shown)
            host = corrected.get("host", "")
            self._update(acknowledged=dump(corrected), host=host)
        self.known = corrected

    def distrust(self, document: Shown) -> None:
        """Store that nothing but the words is known of zooid's configuration.

        It may have an older one: from a backup, or from an edit of the owner before it
        has reloaded. Nor is a word known that was acknowledged, but is not shown.
        """
        with transaction.atomic():
            info = (load(self._lock()) or {}).get("info", {})
            words = {word: info[word] for word in WORDS if word in info}
            if document is not None and self.identity.has(document):
                words |= old_words(document, self.unproven.get("words", {}))
            self.known = {"info": words}
            self._update(acknowledged=dump(self.known))

    def is_disproved_for_long(self) -> bool:
        """Return whether the relay has shown something else for a while.

        The first time is stored, and forgotten at the next proof.
        """
        now = timezone.now()
        text = self.unproven.get("disproved_at")
        since = datetime.fromisoformat(text) if text else now
        # Looks that were interrupted, as by a zooid that was away, begin again.
        if not text or now - since > 10 * RELOAD_TIME:
            self.unproven = {**self.unproven, "disproved_at": now.isoformat()}
            self._update(unproven=self.unproven)
            return False
        return now - since >= RELOAD_TIME

    def record_repair(self) -> None:
        """Store that a difference is sent again: once, until a proof."""
        self.unproven = {**self.unproven, "is_repaired": True}
        self._update(unproven=self.unproven)

    def _store(self, config: Configuration | None, before: dict[str, str]) -> None:
        self.acknowledged_at = timezone.now()
        words = {**before, **self.unproven.get("words", {})} if config else {}
        self.unproven = {**self.unproven, "words": words}
        self._update(
            acknowledged=dump(config) if config else "",
            acknowledged_at=self.acknowledged_at,
            digest=digest(config),
            host=config.get("host", "") if config else "",
            sent="",
            unproven=self.unproven,
        )
        self.known, self.sent, self.is_changed = config, None, True

    def _lock(self) -> RelaySync:
        sync: RelaySync = RelaySync.objects.select_for_update().get(pk=self.lease.pk)
        return sync

    def _update(self, **columns: Any) -> None:
        if not self.lease.row().update(**columns):
            raise LeaseLost("Another worker has taken over the sync of this relay.")


def with_configuration(relays: QuerySet[Relay]) -> QuerySet[Relay]:
    """Return relays with the rows on which their configuration depends."""
    windows = RelayExport.objects.with_open_window()
    related = relays.select_related("plan", "tenant")
    return related.prefetch_related(Prefetch("exports", windows))


def load(sync: RelaySync) -> Configuration | None:
    """Return the acknowledged configuration, None if zooid has none."""
    text = sync.acknowledged.reveal()
    return json.loads(text) if text else None
