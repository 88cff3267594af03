"""Reconciliation of all subscriptions: its runs, and what they have listed."""

from datetime import datetime, timedelta
from typing import Self

from django.db import models
from django.db.models import Count, Q
from django.utils import timezone

from caravel.core.db.leases import LeasedItem, LeasedQuerySet
from caravel.core.db.work_items import backoff

_MAX_BACKOFF = timedelta(minutes=5)


class ReconciliationRunQuerySet(LeasedQuerySet):
    def unfinished(self) -> Self:
        return self.filter(state=ReconciliationRun.State.RUNNING)


class ReconciliationRun(LeasedItem):
    """One comparison of all subscriptions at Stripe with the relays.

    It is stale until it has finished; the worker that holds its lease continues it.
    """

    class State(models.TextChoices):
        RUNNING = "running"
        FINISHED = "finished"

    task_name = "billing.tasks.run_reconciliation"

    version = models.PositiveBigIntegerField(default=1)
    state = models.CharField(
        max_length=16, choices=State.choices, default=State.RUNNING
    )
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    requests = models.PositiveIntegerField(
        default=0, help_text="Pages read of Stripe's list of subscriptions."
    )
    subscriptions = models.PositiveIntegerField(
        default=0, help_text="Subscriptions read so far."
    )
    compared_until = models.CharField(
        max_length=64,
        blank=True,
        default="",
        help_text="The last tenant that was compared.",
    )
    stale_tenants = models.PositiveIntegerField(
        default=0, help_text="Tenants for which a sync was made due."
    )
    drifted = models.JSONField(
        default=dict, blank=True, help_text="Number of these tenants by reason."
    )

    objects = ReconciliationRunQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name = "reconciliation"
        constraints = [
            models.UniqueConstraint(
                fields=["state"],
                condition=Q(state="running"),
                name="reconciliation_one_running",
            ),
            models.CheckConstraint(
                condition=Q(state="finished") ^ Q(finished_at__isnull=True),
                name="reconciliation_finished_at_iff_finished",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M} {self.state}"

    @property
    def progress(self) -> str:
        """The progress so far, in words."""
        text = f"{self.subscriptions} subscriptions listed in {self.requests} requests"
        if self.state == self.State.FINISHED:
            return f"{text}; {self.stale_tenants} tenants to sync"
        done = Count("pk", filter=Q(done=True))
        windows = self.windows.aggregate(total=Count("pk"), done=done)
        return f"{text}, {windows['done']} of {windows['total']} parts"

    @classmethod
    def synced_columns(cls, now: datetime, *, is_stale: bool) -> dict[str, object]:
        return {} if is_stale else {"state": cls.State.FINISHED, "finished_at": now}

    def get_backoff(self, failures: int) -> timedelta:
        return min(backoff(failures), _MAX_BACKOFF)


class ReconciliationWindow(models.Model):
    """Part of Stripe's list: the subscriptions created in a time, in Unix seconds."""

    run = models.ForeignKey(ReconciliationRun, models.CASCADE, related_name="windows")
    created_gte = models.BigIntegerField(null=True, blank=True)
    created_lt = models.BigIntegerField(null=True, blank=True)
    starting_after = models.CharField(
        max_length=255,
        blank=True,
        default="",
        help_text="The last subscription that was read.",
    )
    count = models.PositiveIntegerField(default=0)
    done = models.BooleanField(default=False)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.created_gte or ''}–{self.created_lt or ''}"


class StagedSubscription(models.Model):
    """A subscription as listed by the last run.

    The table is not logged: PostgreSQL empties it after a crash.
    """

    id = models.CharField(primary_key=True, max_length=255)
    customer = models.CharField(max_length=255)
    created = models.BigIntegerField()
    status = models.CharField(max_length=32)
    collection_method = models.CharField(max_length=32)
    tenant_pubkey = models.CharField(max_length=64, blank=True)
    #: Quantity per price, and the number of items: a price may have several.
    items = models.JSONField()
    item_count = models.PositiveIntegerField()
    latest_invoice = models.CharField(max_length=255, blank=True)
    discounts = models.JSONField()
    tax_rates = models.JSONField()
    item_terms = models.JSONField()
    pause_behavior = models.CharField(max_length=32, blank=True)
    pause_resumes_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["customer"], name="staged_by_customer")]

    def __str__(self) -> str:
        return self.id
