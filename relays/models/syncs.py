"""The sync of a relay with its configuration at zooid."""

from typing import Self

from django.db import models
from django.db.models import F, Q

from caravel.core.db.encrypted_text import EncryptedTextField
from caravel.core.db.work_items import WorkItem, WorkQuerySet
from relays.models.relays import Relay


class RelaySyncQuerySet(WorkQuerySet):
    def stale(self) -> Self:
        """Return syncs of relays that zooid may not serve as configured."""
        return self.exclude(version=F("synced_version"))


class RelaySync(WorkItem):
    """State of the sync of one relay with zooid.

    Every change of the relay increments `version` in its own transaction. A sync holds
    the lease, and sets `synced_version` to the version that it started from.
    """

    task_name = "relays.tasks.sync_relay"

    relay = models.OneToOneField(
        Relay, models.CASCADE, primary_key=True, related_name="sync"
    )
    version = models.PositiveBigIntegerField(default=0)
    synced_version = models.PositiveBigIntegerField(default=0)
    lease_token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
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
        ]

    def __str__(self) -> str:
        return f"{self.relay_id} {'stale' if self.is_stale else 'in sync'}"

    @property
    def is_stale(self) -> bool:
        return self.version != self.synced_version
