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
        """Open and uncollectible invoices with an amount remaining.

        Not those that Stripe wrote off because collection was paused: no debt.
        """
        status = [InvoiceCollection.Status.OPEN, InvoiceCollection.Status.UNCOLLECTIBLE]
        rows = self.filter(stripe_status__in=status, amount_remaining_cents__gt=0)
        return rows.exclude(hold=InvoiceCollection.Hold.WRITTEN_OFF)

    def refused_sales(self) -> Self:
        """Drafts with an amount to pay that Stripe refuses to finalize."""
        return self.filter(hold=InvoiceCollection.Hold.REFUSED, total_cents__gt=0)

    def overdue(self, now: datetime) -> Self:
        """Unpaid invoices past their grace period: they suspend the tenant's relays."""
        return self.unpaid().filter(suspend_at__lte=now)


class InvoiceCollection(WorkItem):
    """The collection of one Stripe invoice of a tenant's subscription.

    Holds the invoice as last read from Stripe, and the progress of its collection. As a
    work item it is due when its next step can run.
    """

    class Status(models.TextChoices):
        """Stripe's invoice statuses."""

        DRAFT = "draft"
        OPEN = "open"
        PAID = "paid"
        VOID = "void"
        UNCOLLECTIBLE = "uncollectible"

    class State(models.TextChoices):
        DRAFT = "draft", "draft (not finalized yet)"
        COLLECTING = "collecting"
        PENDING = "pending", "pending (a payment may be in progress)"
        MANUAL = "manual", "manual (waiting for the customer or the next attempt)"
        CLOSED = "closed"

    class Hold(models.TextChoices):
        """What keeps a draft from being finalized, or an invoice from being owed."""

        NONE = "", "nothing"
        HELD = "held", "held (a draft without automatic advancement at Stripe)"
        SCHEDULED = "scheduled", "scheduled (a draft to be finalized later)"
        REFUSED = "refused", "refused (Stripe cannot finalize the draft)"
        WRITTEN_OFF = "written_off", "written off (collection was paused: no debt)"

    class Action(models.TextChoices):
        """The next action of the current payment attempt."""

        NONE = "", "nothing"
        WALLET = "wallet"
        CARD = "card"
        NOTICE = "notice"

    class PaidBy(models.TextChoices):
        NOBODY = "", "Not paid"
        WALLET = "wallet", "Paid by the tenant's wallet"
        LIGHTNING = "lightning", "Paid by Lightning, by hand"
        CARD = "card", "Paid by card"
        CREDIT = "credit", "Paid by credit"
        ELSEWHERE = "elsewhere", "Paid directly at Stripe"

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
        default=0, help_text="Incremented when the record of the invoice changes."
    )
    # Negative if the final invoice of a canceled subscription only has credits.
    total_cents = models.BigIntegerField(default=0)
    amount_due_cents = models.BigIntegerField(default=0)
    amount_paid_cents = models.BigIntegerField(default=0)
    amount_remaining_cents = models.BigIntegerField(default=0)
    unserved_cents = models.PositiveBigIntegerField(
        default=0,
        help_text="What its lines cost after the end of the subscription.",
    )
    dispute_debt_cents = models.PositiveBigIntegerField(
        default=0,
        help_text="Disputed money that the tenant owes again, for served time.",
    )
    period_start = models.DateTimeField(null=True, blank=True)
    period_end = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(help_text="When Stripe created it.")
    finalized_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    suspend_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="If unpaid by then, the tenant's relays are suspended.",
    )
    state = models.CharField(max_length=16, choices=State.choices, default=State.DRAFT)
    hold = models.CharField(
        max_length=16,
        choices=Hold.choices,
        default=Hold.NONE,
        blank=True,
        help_text="What keeps it from being finalized or owed at Stripe.",
    )
    finalization_error = models.CharField(
        max_length=64,
        blank=True,
        default="",
        help_text="Stripe's code for refusing to finalize the draft.",
    )
    finalization_refused_at = models.DateTimeField(
        null=True, blank=True, help_text="Stripe has refused to finalize it since then."
    )
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
        default=0, help_text="RATE_LIMITED replies of the wallet in this attempt."
    )
    paid_by = models.CharField(
        max_length=16, choices=PaidBy.choices, default=PaidBy.NOBODY, blank=True
    )
    outcome = models.CharField(
        max_length=200, blank=True, default="", help_text="The result of the last run."
    )
    closed_at = models.DateTimeField(null=True, blank=True)
    wallet_checked_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the wallet was checked for the next invoice.",
    )
    wallet_asked_at = models.DateTimeField(
        null=True, blank=True, help_text="When that check last started."
    )
    wallet_silent_at = models.DateTimeField(
        null=True, blank=True, help_text="When that check first got no reply."
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
                fields=["tenant"],
                name="billing_collections_refused",
                condition=Q(hold="refused"),
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
        """True if open or uncollectible with an amount remaining, as in `unpaid()`."""
        payable = {self.Status.OPEN, self.Status.UNCOLLECTIBLE}
        is_payable = self.stripe_status in payable and self.amount_remaining_cents > 0
        return is_payable and self.hold != self.Hold.WRITTEN_OFF

    @property
    def is_final(self) -> bool:
        """True if paid or void: Stripe does not change it any more."""
        return self.stripe_status in {self.Status.PAID, self.Status.VOID}


class CardAttemptQuerySet(models.QuerySet["CardAttempt"]):
    def pending(self) -> Self:
        return self.filter(state=CardAttempt.State.PENDING)


class CardAttempt(models.Model):
    """One card charge for an invoice, recorded before the request is sent.

    Without an answer it stays `pending`, and is repeated under the same key.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        PAID = "paid"
        REFUSED = "refused"
        ACTION_REQUIRED = (
            "action_required",
            "action required (the bank asks for authentication)",
        )

    collection = models.ForeignKey(
        InvoiceCollection, models.PROTECT, related_name="card_attempts"
    )
    payment_method = models.CharField(max_length=255)
    amount_cents = models.PositiveBigIntegerField()
    # Repeated with the request, so that Stripe makes the charge once.
    idempotency_key = models.CharField(max_length=255, unique=True)
    state = models.CharField(
        max_length=16, choices=State.choices, default=State.PENDING
    )
    code = models.CharField(
        max_length=64,
        blank=True,
        default="",
        help_text="Stripe's decline or error code.",
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
    """The booking of a Lightning payment that arrived: each is counted once.

    `marking`: the invoice is being marked as paid by it. `marked`: the invoice was
    marked, `marked_cents` were applied. `credited`: all of it became credit.
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
