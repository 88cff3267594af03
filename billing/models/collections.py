from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from caravel.core.db.work_items import WorkItem, WorkQuerySet
from lightning.models import LightningInvoice
from tenants.models import Tenant


class InvoiceCollectionQuerySet(WorkQuerySet):
    def working(self) -> Self:
        return self.exclude(state=InvoiceCollection.State.CLOSED)

    def unpaid(self) -> Self:
        """Those that ask for money: a person may have written them off, too."""
        status = [InvoiceCollection.Status.OPEN, InvoiceCollection.Status.UNCOLLECTIBLE]
        return self.filter(stripe_status__in=status, amount_remaining_cents__gt=0)

    def overdue(self, now: datetime) -> Self:
        """Unpaid ones whose grace is over: they suspend their tenant's relays."""
        return self.unpaid().filter(suspend_at__lte=now)


class InvoiceCollection(WorkItem):
    """The collection of one Stripe invoice of a subscription of ours.

    What Stripe said of the invoice when it was last read, and how far the collection
    is. As a work item it is due when the next step can be taken.
    """

    class Status(models.TextChoices):
        """Stripe's."""

        DRAFT = "draft"
        OPEN = "open"
        PAID = "paid"
        VOID = "void"
        UNCOLLECTIBLE = "uncollectible"

    class State(models.TextChoices):
        DRAFT = "draft", "draft (not finalized yet)"
        COLLECTING = "collecting"
        PENDING = "pending", "pending (a payment may be under way)"
        MANUAL = "manual", "manual (waits for a person, or the next try)"
        CLOSED = "closed"

    class Action(models.TextChoices):
        """What the present rung of the ladder does next."""

        NONE = "", "nothing"
        WALLET = "wallet"
        CARD = "card"
        NOTICE = "notice"

    class PaidBy(models.TextChoices):
        NOBODY = "", "nobody"
        WALLET = "wallet", "the tenant's wallet"
        LIGHTNING = "lightning", "a Lightning invoice that a person paid"
        CARD = "card", "a card"
        CREDIT = "credit", "credit"
        ELSEWHERE = "elsewhere", "at Stripe, not by us"

    task_name = "billing.tasks.collect_invoice"

    stripe_invoice_id = models.CharField(primary_key=True, max_length=255)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="collections")
    stripe_customer_id = models.CharField(max_length=255)
    stripe_subscription_id = models.CharField(max_length=255, db_index=True)
    number = models.CharField(max_length=255, blank=True, default="")
    billing_reason = models.CharField(max_length=64, blank=True, default="")
    hosted_invoice_url = models.TextField(blank=True, default="")
    currency = models.CharField(max_length=3)
    stripe_status = models.CharField(
        max_length=16, choices=Status.choices, db_column="status"
    )
    revision = models.PositiveIntegerField(
        default=0, help_text="How often what is kept of the invoice has changed."
    )
    # A final invoice that only credits has a negative total.
    total_cents = models.BigIntegerField(default=0)
    amount_due_cents = models.BigIntegerField(default=0)
    amount_paid_cents = models.BigIntegerField(default=0)
    amount_remaining_cents = models.BigIntegerField(default=0)
    period_start = models.DateTimeField(null=True, blank=True)
    period_end = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(help_text="When Stripe made it.")
    finalized_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    suspend_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Unpaid by then, it suspends the tenant's relays.",
    )
    state = models.CharField(max_length=16, choices=State.choices, default=State.DRAFT)
    attempts_started = models.PositiveSmallIntegerField(
        default=0, db_column="rungs_begun"
    )
    attempt_started_at = models.DateTimeField(
        null=True, blank=True, db_column="rung_begun_at"
    )
    next_action = models.CharField(
        max_length=16,
        choices=Action.choices,
        default=Action.NONE,
        blank=True,
        db_column="next_rail",
    )
    rate_limits = models.PositiveSmallIntegerField(
        default=0, help_text="How often the wallet was too busy in this rung."
    )
    paid_by = models.CharField(
        max_length=16, choices=PaidBy.choices, default=PaidBy.NOBODY, blank=True
    )
    outcome = models.CharField(
        max_length=200, blank=True, default="", help_text="What was done last."
    )
    closed_at = models.DateTimeField(null=True, blank=True)
    wallet_checked_at = models.DateTimeField(
        null=True, blank=True, help_text="When the wallet was tried for the next one."
    )
    wallet_asked_at = models.DateTimeField(
        null=True, blank=True, help_text="When that was last begun."
    )
    wallet_silent_at = models.DateTimeField(
        null=True, blank=True, help_text="When it was first asked and did not answer."
    )

    objects = InvoiceCollectionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "invoice collection"
        constraints = [
            models.CheckConstraint(
                condition=Q(state="closed") ^ Q(closed_at__isnull=True),
                name="collection_closed_at_iff_closed",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="billing_collections_due",
                condition=~Q(state="closed"),
            ),
            models.Index(
                fields=["tenant", "suspend_at"],
                name="billing_collections_unpaid",
                condition=Q(stripe_status__in=["open", "uncollectible"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.number or self.stripe_invoice_id} {self.state}"

    @property
    def is_unpaid(self) -> bool:
        """Whether it asks for money, like those of `unpaid()`."""
        asking = {self.Status.OPEN, self.Status.UNCOLLECTIBLE}
        return self.stripe_status in asking and self.amount_remaining_cents > 0

    @property
    def is_final(self) -> bool:
        """Whether Stripe asks for nothing any more."""
        return self.stripe_status in {self.Status.PAID, self.Status.VOID}


class CardAttemptQuerySet(models.QuerySet["CardAttempt"]):
    def pending(self) -> Self:
        return self.filter(state=CardAttempt.State.PENDING)


class CardAttempt(models.Model):
    """One charge of a card for an invoice, recorded before it is asked for.

    Without an answer it stays `pending`, and is asked for again under the same key.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        PAID = "paid"
        REFUSED = "refused"
        ACTION_REQUIRED = "action_required", "action required (the bank wants to ask)"

    collection = models.ForeignKey(
        InvoiceCollection, models.PROTECT, related_name="card_attempts"
    )
    payment_method = models.CharField(max_length=255)
    amount_cents = models.PositiveBigIntegerField()
    idempotency_key = models.CharField(max_length=255, unique=True)
    state = models.CharField(
        max_length=16, choices=State.choices, default=State.PENDING
    )
    code = models.CharField(
        max_length=64, blank=True, default="", help_text="Why it was refused."
    )
    advice_code = models.CharField(max_length=64, blank=True, default="")
    message = models.CharField(max_length=240, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)
    tried_at = models.DateTimeField(null=True, blank=True)
    resolved_at = models.DateTimeField(null=True, blank=True)

    objects = CardAttemptQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["collection"],
                condition=Q(state="pending"),
                name="card_one_pending_per_invoice",
            ),
            models.CheckConstraint(
                condition=Q(state="pending") ^ Q(resolved_at__isnull=False),
                name="card_resolved_iff_not_pending",
            ),
        ]
        indexes = [models.Index(fields=["payment_method"])]

    def __str__(self) -> str:
        return f"{self.collection_id} {self.state}"


class Settlement(models.Model):
    """What became of a Lightning payment that arrived: it is counted once.

    `marking`: the invoice is being marked as paid by it. `marked`: it was, up to
    `marked_cents`. `credited`: nothing of it could be; all is credit.
    """

    class State(models.TextChoices):
        MARKING = "marking"
        MARKED = "marked"
        CREDITED = "credited"

    invoice = models.OneToOneField(
        LightningInvoice, models.PROTECT, primary_key=True, related_name="settlement"
    )
    collection = models.ForeignKey(
        InvoiceCollection, models.PROTECT, related_name="settlements"
    )
    state = models.CharField(max_length=16, choices=State.choices)
    marked_cents = models.PositiveBigIntegerField(default=0)
    surplus_cents = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["collection"],
                condition=Q(state__in=["marking", "marked"]),
                name="settlement_marks_an_invoice_once",
            ),
            models.CheckConstraint(
                condition=Q(state="marking") ^ Q(resolved_at__isnull=False),
                name="settlement_resolved_iff_not_marking",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.collection_id} {self.state}"
