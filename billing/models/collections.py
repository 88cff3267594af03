from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Exists, F, OuterRef, Q

from caravel.core.db.indexes import unusual
from caravel.core.db.work_items import WorkItem, WorkQuerySet
from lightning.models import LightningInvoice, LightningInvoiceQuerySet
from tenants.models import Tenant


class InvoiceCollectionQuerySet(WorkQuerySet):
    def working(self) -> Self:
        return self.exclude(state=InvoiceCollection.State.CLOSED)

    def unpaid(self) -> Self:
        """Invoices with something to pay: an amount remaining, or a dispute debt.

        Those that Stripe wrote off because collection was paused are no debt.
        """
        return self.filter(is_chargeable_q() | Q(dispute_debt_cents__gt=0))

    def paid(self) -> Self:
        """Those that are paid at Stripe, with no disputed money to be paid again."""
        paid = InvoiceCollection.Status.PAID
        return self.filter(stripe_status=paid, dispute_debt_cents=0)

    def chargeable(self) -> Self:
        """Invoices with an amount remaining that Stripe lets us charge."""
        return self.filter(is_chargeable_q())

    def refused_sales(self) -> Self:
        """Drafts with an amount to pay that Stripe refuses to finalize."""
        return self.filter(hold=InvoiceCollection.Hold.REFUSED, total_cents__gt=0)

    def disputed(self) -> Self:
        """Invoices whose payment was taken back by a dispute and is owed again."""
        return self.filter(dispute_debt_cents__gt=0)

    def overdue(self, now: datetime) -> Self:
        """Unpaid invoices past their grace period: they suspend the tenant's relays.

        A bank payment that started within the grace period extends it until it ends. So
        does a Lightning payment that our wallet does not show, though it may have it.
        """
        debited_in_time = Q(
            intent_status=InvoiceCollection.IntentStatus.PROCESSING,
            intent_since__lt=F("suspend_at"),
        )
        asked_in_time = _undecided(now).filter(issued_at__lt=OuterRef("suspend_at"))
        overdue = self.unpaid().filter(~debited_in_time, suspend_at__lte=now)
        return overdue.filter(~Exists(asked_in_time))

    def not_being_paid(self, now: datetime) -> Self:
        """Invoices without a payment that has been made, but is not known to arrive.

        That is a bank payment in progress, or one by Lightning that our wallet does not
        show.
        """
        debited = Q(intent_status=InvoiceCollection.IntentStatus.PROCESSING)
        return self.exclude(debited).filter(~Exists(_undecided(now)))


def _undecided(now: datetime) -> LightningInvoiceQuerySet:
    """Return the bolt11s of an outer query's invoice that may have been paid."""
    undecided = LightningInvoice.objects.undecided(now)
    return undecided.filter(stripe_invoice_id=OuterRef("pk"))


def is_chargeable_q() -> Q:
    """Return `chargeable_cents` > 0 as a filter."""
    return Q(
        ~Q(hold=InvoiceCollection.Hold.WRITTEN_OFF),
        stripe_status__in=InvoiceCollection.PAYABLE_STATUSES,
        amount_remaining_cents__gt=0,
    )


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
        """Reasons why a draft is not finalized, or an invoice is not owed."""

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

    class IntentStatus(models.TextChoices):
        """Statuses of a PaymentIntent that may still pay the invoice."""

        NONE = "", "nothing"
        PROCESSING = "processing", "processing (a bank debit takes days)"
        REQUIRES_ACTION = "requires_action", "requires action (3D Secure on its page)"

    class PaidBy(models.TextChoices):
        NOBODY = "", "Not paid"
        WALLET = "wallet", "Paid by the tenant's wallet"
        LIGHTNING = "lightning", "Paid by Lightning, by hand"
        CARD = "card", "Paid by card"
        CREDIT = "credit", "Paid by credit"
        ELSEWHERE = "elsewhere", "Paid directly at Stripe"

    task_name = "billing.tasks.collect_invoice"
    #: Statuses in which Stripe accepts a payment.
    PAYABLE_STATUSES = (Status.OPEN, Status.UNCOLLECTIBLE)
    #: Statuses of invoices that Stripe does not change any more.
    FINAL_STATUSES = (Status.PAID, Status.VOID)

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
    given_back_cents = models.PositiveBigIntegerField(
        default=0,
        help_text="What staff gave back of it, as known when its end was credited.",
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
    intent_status = models.CharField(
        max_length=16,
        choices=IntentStatus.choices,
        default=IntentStatus.NONE,
        blank=True,
        help_text="What may be paying it at Stripe, apart from our own card charges.",
    )
    intent_method = models.CharField(
        max_length=255, blank=True, default="", help_text="Payment method used for it."
    )
    intent_since = models.DateTimeField(
        null=True, blank=True, help_text="When it was first read."
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
            models.Index(
                fields=["tenant", "suspend_at"],
                name="billing_collections_disputed",
                condition=Q(dispute_debt_cents__gt=0),
            ),
            models.Index(fields=["created_at"], name="billing_collections_by_age"),
            models.Index(
                fields=["period_end"],
                name="billing_wallets_to_check",
                condition=Q(wallet_checked_at=None),
            ),
            unusual("stripe_status", "paid", "billing_collections_not_paid"),
            unusual("state", "closed", "billing_collections_not_closed"),
            unusual("hold", "", "billing_collections_held"),
            models.Index(fields=["paid_by"], name="billing_collections_by_payer"),
            unusual("last_error_code", "", "billing_collections_by_error"),
            models.Index(
                fields=["number"],
                name="billing_collections_by_number",
                opclasses=["varchar_pattern_ops"],
            ),
            models.Index(
                fields=["stripe_customer_id"],
                name="billing_collections_customers",
                opclasses=["varchar_pattern_ops"],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.number or self.stripe_invoice_id} {self.state}"

    @property
    def is_unpaid(self) -> bool:
        """True if there is something to pay, as in `unpaid()`."""
        return self.owed_cents > 0

    @property
    def chargeable_cents(self) -> int:
        """The amount that Stripe lets us charge for the invoice."""
        is_payable = self.stripe_status in self.PAYABLE_STATUSES
        if not is_payable or self.hold == self.Hold.WRITTEN_OFF:
            return 0
        return max(0, self.amount_remaining_cents)

    @property
    def owed_cents(self) -> int:
        """The amount to pay: what remains of the invoice, and its dispute debt."""
        return self.chargeable_cents + self.dispute_debt_cents

    @property
    def is_bank_debited(self) -> bool:
        """True if unpaid, and a bank payment is in progress."""
        return self.is_unpaid and self.intent_status == self.IntentStatus.PROCESSING

    @property
    def is_final(self) -> bool:
        """True if paid or void: Stripe does not change it any more."""
        return self.stripe_status in self.FINAL_STATUSES
