import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from caravel.core.db.indexes import unusual
from caravel.core.db.work_items import WorkItem, WorkQuerySet
from tenants.models import Tenant

# WITH, since PostgreSQL may run a subquery, and lock rows, more than once:
# https://www.postgresql.org/message-id/16241.1553607341%40sss.pgh.pa.us
# A second early: the clock of the host that stored the event may be ahead.
CLAIM_DUE = """
    WITH due AS MATERIALIZED (
        SELECT id FROM billing_stripeevent
        WHERE status = 'received' AND enqueued_at IS NULL
            AND next_attempt_at <= %(now)s + interval '1 second'
        ORDER BY next_attempt_at LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    UPDATE billing_stripeevent AS event SET enqueued_at = %(now)s
    FROM due WHERE event.id = due.id
    RETURNING event.*
"""


class StripeEventQuerySet(WorkQuerySet):
    def received(self) -> Self:
        return self.filter(status=StripeEvent.Status.RECEIVED)

    def lost(self) -> Self:
        """Return events that a worker was to process, and that it may have lost."""
        return self.received().exclude(enqueued_at=None)

    def claim_due(self, *, now: datetime, limit: int) -> list["StripeEvent"]:
        """Mark due events as enqueued; return them, longest due first.

        Lost ones are left to the sweep: one of them may have killed its worker, and
        gets a task of its own.
        """
        claimed = self.raw(CLAIM_DUE, {"now": now, "limit": limit})
        return sorted(claimed, key=lambda event: event.next_attempt_at)

    def release(self, events: Iterable["StripeEvent"], *, claimed_at: datetime) -> None:
        """Make events due again that were claimed and not processed."""
        claimed = self.received().filter(enqueued_at=claimed_at)
        keys = [event.pk for event in events]
        claimed.filter(pk__in=keys).update(enqueued_at=None)


class StripeEvent(WorkItem):
    """The webhook inbox: one row per event, stored as Stripe sent it."""

    class Status(models.TextChoices):
        RECEIVED = "received"
        PROCESSED = "processed"
        FAILED = "failed", "failed (given up; can be processed again)"
        PARKED = "parked", "parked (the customer names an unknown tenant)"

    task_name = "billing.tasks.process_stripe_event"

    id = models.CharField(primary_key=True, max_length=255)
    type = models.CharField(max_length=100)
    livemode = models.BooleanField()
    body = models.TextField(help_text="The event as Stripe sent it.")
    created_at = models.DateTimeField(help_text="When Stripe created the event.")
    received_at = models.DateTimeField(default=timezone.now)
    status = models.CharField(
        max_length=16, choices=Status.choices, default=Status.RECEIVED
    )
    processed_at = models.DateTimeField(null=True, blank=True)
    tenant = models.ForeignKey(
        Tenant, models.PROTECT, null=True, blank=True, related_name="stripe_events"
    )
    outcome = models.CharField(max_length=200, blank=True, default="")

    objects = StripeEventQuerySet.as_manager()

    class Meta:
        ordering = ["-received_at"]
        verbose_name = "Stripe event"
        constraints = [
            models.CheckConstraint(
                condition=Q(status="processed") ^ Q(processed_at__isnull=True),
                name="stripe_event_processed_at_iff_processed",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="billing_received_events",
                condition=Q(status="received"),
            ),
            unusual("status", "processed", "billing_events_not_processed"),
            models.Index(fields=["received_at"], name="billing_events_by_age"),
            models.Index(fields=["type"], name="billing_events_by_type"),
            unusual("last_error_code", "", "billing_events_by_error"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"

    @property
    def data(self) -> dict[str, Any]:
        """The object and its changes as sent: for routing only, never to decide by."""
        return dict(json.loads(self.body)["data"])
