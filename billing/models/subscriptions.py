from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from caravel.core.db.indexes import unusual
from caravel.core.db.leases import LeasedItem, LeasedQuerySet
from tenants.models import Tenant


class SubscriptionSyncQuerySet(LeasedQuerySet):
    def paused(self) -> Self:
        """Tenants whose current subscription has the status `paused` at Stripe."""
        return self.filter(
            paused_subscription_id=F("tenant__stripe_subscription_id"),
            paused_at__isnull=False,
        )


class SubscriptionSync(LeasedItem):
    """State of the sync of a tenant's subscription with its relays.

    It is stale while the subscription may not match them.
    """

    task_name = "billing.tasks.sync_subscription"

    tenant = models.OneToOneField(
        Tenant, models.PROTECT, primary_key=True, related_name="subscription_sync"
    )
    stale_since = models.DateTimeField(null=True, blank=True)
    synced_at = models.DateTimeField(null=True, blank=True)
    # With its id: a pause ends with its subscription, however that ends.
    paused_subscription_id = models.CharField(max_length=255, blank=True, default="")
    paused_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="The subscription has been paused at Stripe since then: paid relays "
        "are off until it is resumed there.",
    )
    collection_pause = models.CharField(
        max_length=32,
        blank=True,
        default="",
        help_text="Behavior of `pause_collection` at Stripe: relays stay on, new "
        "invoices are not charged.",
    )
    collection_resumes_at = models.DateTimeField(
        null=True, blank=True, help_text="When Stripe ends that pause, if ever."
    )
    # As last given to Stripe: what staff edit there stays until it changes here.
    customer_name = models.CharField(max_length=255, blank=True, default="")
    customer_email = models.CharField(max_length=512, blank=True, default="")

    terms = models.JSONField(
        default=dict,
        blank=True,
        help_text="Discounts and taxes of its subscription, for the next one.",
    )
    quoted = models.JSONField(
        default=dict,
        blank=True,
        editable=False,
        help_text="Items of a change that a tenant has accepted at a quoted amount, "
        "and the time from which it is prorated.",
    )
    foreign_ids = models.JSONField(
        "not ours",
        default=list,
        blank=True,
        help_text="Objects of its customer that Caravel does not bill or collect.",
    )

    objects = SubscriptionSyncQuerySet.as_manager()

    class Meta:
        verbose_name = "subscription sync"
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="billing_stale_tenants",
                condition=~Q(version=F("synced_version")),
            ),
            models.Index(
                fields=["stale_since"],
                name="billing_stale_since",
                condition=Q(stale_since__isnull=False),
            ),
            models.Index(
                fields=["paused_at"],
                name="billing_paused_tenants",
                condition=Q(paused_at__isnull=False),
            ),
            unusual("collection_pause", "", "billing_paused_collections"),
            unusual("last_error_code", "", "billing_syncs_by_error"),
            unusual("failures", 0, "billing_failing_tenants"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant_id[:8]} {'stale' if self.is_stale else 'in sync'}"

    @classmethod
    def synced_columns(cls, now: datetime, *, is_stale: bool) -> dict[str, object]:
        if is_stale:
            return {"synced_at": now, "stale_since": now}
        return {"synced_at": now, "stale_since": None, "quoted": {}}

    def get_countdown(self) -> int:
        """Return the delay that combines successive changes into one sync."""
        return settings.BILLING_SYNC_DELAY


class StripeWriteQuerySet(models.QuerySet["StripeWrite"]):
    def pending(self) -> Self:
        return self.filter(state=StripeWrite.State.PENDING)

    def unresolved(self) -> Self:
        """Pending writes, and cancellations whose credits may have to be corrected."""
        credited = Q(
            kind=StripeWrite.Kind.CANCEL_SUBSCRIPTION,
            params__has_key=StripeWrite.CHANGES,
        )
        return self.filter(Q(state=StripeWrite.State.PENDING) | credited)

    def of(self, kind: str, subject: str) -> Self:
        return self.filter(kind=kind, subject=subject)


class StripeWrite(models.Model):
    """A write to Stripe that creates or charges, recorded before it is sent.

    A retry sends the same key with the same parameters, so Stripe executes it once.
    """

    class Kind(models.TextChoices):
        CREATE_CUSTOMER = "customer.create"
        CREATE_SUBSCRIPTION = "subscription.create"
        CANCEL_SUBSCRIPTION = "subscription.cancel"
        CREATE_CREDIT_NOTE = "credit_note.create"
        CHANGE_BALANCE = "balance.change"

    class State(models.TextChoices):
        PENDING = "pending"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        ABANDONED = "abandoned", "abandoned (no answer, and nothing at Stripe)"

    #: Parameter of a cancellation: the number of changes since the end.
    CHANGES = "changes"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="stripe_writes")
    kind = models.CharField(max_length=32, choices=Kind.choices)
    subject = models.CharField(
        max_length=255,
        help_text="Tenant, credit or Stripe object that the write is for.",
    )
    generation = models.PositiveIntegerField()
    idempotency_key = models.CharField(max_length=255, unique=True)
    params = models.JSONField()
    state = models.CharField(
        max_length=16, choices=State.choices, default=State.PENDING
    )
    stripe_id = models.CharField(max_length=255, blank=True, default="")
    last_error = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)
    tried_at = models.DateTimeField(null=True, blank=True)
    unknown_since = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)

    objects = StripeWriteQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        db_table = "billing_stripeintent"
        verbose_name = "Stripe write"
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject", "generation"],
                name="stripe_intent_generation_unique",
            ),
            models.UniqueConstraint(
                fields=["kind", "subject"],
                condition=Q(state="pending"),
                name="stripe_intent_one_pending",
            ),
            models.CheckConstraint(
                condition=Q(state="pending") ^ Q(resolved_at__isnull=False),
                name="stripe_intent_resolved_iff_not_pending",
            ),
        ]
        indexes = [
            unusual("state", "succeeded", "billing_writes_not_succeeded"),
            unusual("stripe_id", "", "billing_writes_by_stripe_id"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject} #{self.generation} {self.state}"
