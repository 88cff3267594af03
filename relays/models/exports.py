"""Exports of a relay's events."""

from datetime import UTC, datetime
from typing import Self

from django.db import models
from django.db.models import Q

from caravel.core.db.work_items import WorkItem, WorkQuerySet
from relays.models.relays import Relay

#: End of the year 9999, the last that Python knows.
_LAST_SECOND = 253_402_300_799

_UNREACHABLE = "The relay could not be read. Please try again, or ask support."


class RelayExportQuerySet(WorkQuerySet):
    def unfinished(self) -> Self:
        return self.filter(
            state__in=(RelayExport.State.WAITING, RelayExport.State.RUNNING)
        )

    def done(self) -> Self:
        return self.filter(state=RelayExport.State.DONE)

    def with_open_window(self) -> Self:
        """Return exports that need their relay to be served under a private name.

        A relay that was switched on meanwhile is served under its own name again.
        """
        dark = self.unfinished().filter(relay__deleted_at=None)
        return dark.exclude(window_host="").exclude(relay__status=Relay.Status.ACTIVE)

    def expired(self, now: datetime) -> Self:
        return self.done().filter(expires_at__lte=now)


class RelayExport(WorkItem):
    """Export of the events of one relay, as JSON lines in gzip parts.

    `cursor` is the NIP-01 `until` of the next page, and `cursor_ids` the events of that
    second that are exported already: an export goes on where its worker stopped.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "waiting (for the relay)"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        EXPIRED = "expired", "expired (deleted)"

    task_name = "relays.tasks.export_relay"

    relay = models.ForeignKey(Relay, models.PROTECT, related_name="exports")
    state = models.CharField(
        max_length=16, choices=State.choices, default=State.WAITING
    )
    #: Private name under which a relay that is switched off is served meanwhile.
    window_host = models.CharField(
        max_length=255, blank=True, default="", editable=False
    )
    cursor = models.BigIntegerField(null=True, blank=True)
    cursor_ids = models.JSONField(default=list, blank=True)
    events = models.PositiveBigIntegerField(default=0)
    gaps = models.PositiveIntegerField(
        default=0,
        help_text="Places where the relay may have more events than it has shown.",
    )
    size_bytes = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    objects = RelayExportQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name = "relay export"
        constraints = [
            models.UniqueConstraint(
                fields=["relay"],
                condition=Q(state__in=("waiting", "running")),
                name="relay_export_one_unfinished",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="relays_unfinished_exports",
                condition=Q(state__in=("waiting", "running")),
            ),
            models.Index(
                fields=["expires_at"],
                name="relays_export_files",
                condition=Q(state="done"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.relay} {self.state}"

    @property
    def is_unfinished(self) -> bool:
        return self.state in (self.State.WAITING, self.State.RUNNING)

    @property
    def reached_at(self) -> datetime | None:
        """Return the time back to which an unfinished export has come."""
        if self.cursor is None or not self.is_unfinished:
            return None
        # Relays store any number as the time of an event.
        return datetime.fromtimestamp(min(max(self.cursor, 0), _LAST_SECOND), UTC)

    @property
    def failure(self) -> str:
        """Return why a failed export was given up, in words for the tenant."""
        if self.state != self.State.FAILED:
            return ""
        # Other errors describe our own infrastructure.
        is_told = self.last_error_code.startswith("export-")
        return self.last_error.partition(" [")[0] if is_told else _UNREACHABLE

    def get_countdown(self) -> int:
        """Return the seconds until the next look at a relay that is not served yet."""
        return 5 if self.state == self.State.WAITING and self.failures else 0

    @property
    def has_open_window(self) -> bool:
        """Return whether the relay has to be served under the private name."""
        is_dark = self.relay.status != Relay.Status.ACTIVE and not self.relay.deleted_at
        return bool(self.window_host) and is_dark and self.is_unfinished


class RelayExportPart(models.Model):
    """One page of an export: a complete gzip member, so parts can be concatenated."""

    export = models.ForeignKey(RelayExport, models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(
                fields=["export", "number"], name="relay_export_part_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.export_id} {self.number}"
