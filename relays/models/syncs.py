"""The sync of a relay with its configuration at zooid."""

from datetime import datetime, timedelta
from typing import Self

from django.db import models
from django.db.models import F, Q

from caravel.core.db.encrypted_text import EncryptedTextField
from caravel.core.db.indexes import unusual
from caravel.core.db.leases import LeasedItem, LeasedQuerySet
from relays.models.relays import Relay

SERVED_PROBE_INTERVAL = timedelta(minutes=15)
DARK_PROBE_INTERVAL = timedelta(hours=1)

#: Failures in a row until which the delay doubles.
_DOUBLINGS = 6


class RelaySyncQuerySet(LeasedQuerySet):
    def probe_due(self, now: datetime) -> Self:
        """Return syncs of relays to probe again: those that are off less often."""
        due = Q(probed_at=None) | Q(probed_at__lte=now - DARK_PROBE_INTERVAL)
        is_served = Q(relay__status=Relay.Status.ACTIVE)
        due |= is_served & Q(probed_at__lte=now - SERVED_PROBE_INTERVAL)
        # Without a host, zooid has not got it; a deleted one has none either.
        return self.filter(due).exclude(host="")


class RelaySync(LeasedItem):
    """State of the sync of one relay with zooid.

    It is stale while zooid may not serve the relay as configured.
    """

    task_name = "relays.tasks.sync_relay"

    relay = models.OneToOneField(
        Relay, models.CASCADE, primary_key=True, related_name="sync"
    )
    # JSON, without the relay's secret key but with those of LiveKit: encrypted.
    acknowledged = EncryptedTextField(
        help_text="Configuration that zooid has acknowledged; empty if it has none."
    )
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    digest = models.CharField(
        max_length=64,
        blank=True,
        default="",
        help_text="Keyed digest of the acknowledged configuration.",
    )
    host = models.CharField(
        max_length=255,
        blank=True,
        default="",
        db_index=True,
        help_text="Host under which zooid serves it, as acknowledged.",
    )
    # Written before a request leaves, and cleared by its answer: a lost answer may mean
    # that zooid has done it.
    sent = EncryptedTextField(help_text="Write without an answer: method and body.")
    # `words`: those that the last write replaced, and NIP-11 shows until the reload.
    # `is_repaired`: a difference that NIP-11 proved was sent again.
    unproven = models.JSONField(default=dict, blank=True, editable=False)
    words_seen = models.JSONField(
        blank=True,
        default=dict,
        help_text="Name, icon and description when the relay's document was last read.",
    )
    words_seen_at = models.DateTimeField(null=True, blank=True)
    probed_at = models.DateTimeField(null=True, blank=True)
    probe_failures = models.PositiveIntegerField(default=0)

    objects = RelaySyncQuerySet.as_manager()

    class Meta:
        verbose_name = "relay sync"
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="relays_stale_relays",
                condition=~Q(version=F("synced_version")),
            ),
            models.Index(fields=["probed_at"], name="relays_probed_at"),
            unusual("failures", 0, "relays_failed_syncs"),
            unusual("probe_failures", 0, "relays_failed_probes"),
        ]

    def __str__(self) -> str:
        return f"{self.relay_id} {'stale' if self.is_stale else 'in sync'}"

    def get_backoff(self, failures: int) -> timedelta:
        if failures > _DOUBLINGS:
            return timedelta(hours=1)
        return min(timedelta(seconds=30) * (1 << (failures - 1)), timedelta(minutes=15))
