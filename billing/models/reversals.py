from typing import Self

from django.db import models
from django.db.models import Q, Sum
from django.utils import timezone

from billing.models.collections import InvoiceCollection
from tenants.models import Tenant


class ReversalQuerySet(models.QuerySet["Reversal"]):
    def refunds(self) -> Self:
        """Refunds that returned money, or still may."""
        refunds = self.filter(kind=Reversal.Kind.REFUND)
        return refunds.exclude(state__in=Reversal.FAILED_STATES)

    def disputes(self) -> Self:
        """Disputes that took money: neither won nor only an inquiry."""
        return self.filter(kind=Reversal.Kind.DISPUTE, state__in=Reversal.TAKING_STATES)

    def unsettled(self) -> Self:
        """Disputes that are not decided yet, and refunds that may still fail."""
        undecided = Q(kind=Reversal.Kind.DISPUTE, state__in=Reversal.UNDECIDED_STATES)
        failed = Q(state__in=Reversal.FAILED_STATES)
        return self.filter(undecided | Q(kind=Reversal.Kind.REFUND) & ~failed)

    def sum_cents(self, column: str = "amount_cents") -> int:
        """Return the sum of an amount, in the minor unit of the currency."""
        return int(self.aggregate(cents=Sum(column, default=0))["cents"])


class Reversal(models.Model):
    """A payment of an invoice that was taken back, in part or whole, or may soon be.

    One row per refund, dispute and early fraud warning at Stripe, as last read.
    """

    class Kind(models.TextChoices):
        REFUND = "refund"
        DISPUTE = "dispute"
        FRAUD_WARNING = "fraud_warning", "early fraud warning"

    class State(models.TextChoices):
        """Stripe's statuses of refunds and of disputes; `open` is a warning's."""

        PENDING = "pending"
        REQUIRES_ACTION = "requires_action"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELED = "canceled"
        WARNING_NEEDS_RESPONSE = "warning_needs_response"
        WARNING_UNDER_REVIEW = "warning_under_review"
        WARNING_CLOSED = "warning_closed"
        NEEDS_RESPONSE = "needs_response"
        UNDER_REVIEW = "under_review"
        WON = "won"
        LOST = "lost"
        PREVENTED = "prevented"
        APPEAL_NEEDS_RESPONSE = "appeal_needs_response"
        APPEAL_UNDER_REVIEW = "appeal_under_review"
        OPEN = "open"

    #: States of a refund that returns nothing.
    FAILED_STATES = (State.FAILED, State.CANCELED)
    #: States of a dispute in which the bank has the money:
    #: https://docs.stripe.com/api/disputes/object
    TAKING_STATES = (
        State.NEEDS_RESPONSE,
        State.UNDER_REVIEW,
        State.LOST,
        State.APPEAL_NEEDS_RESPONSE,
        State.APPEAL_UNDER_REVIEW,
    )
    #: States in which support can still submit evidence, or has to wait for a decision.
    UNDECIDED_STATES = (
        State.WARNING_NEEDS_RESPONSE,
        State.WARNING_UNDER_REVIEW,
        State.NEEDS_RESPONSE,
        State.UNDER_REVIEW,
        State.APPEAL_NEEDS_RESPONSE,
        State.APPEAL_UNDER_REVIEW,
    )
    RESPONSE_STATES = (
        State.WARNING_NEEDS_RESPONSE,
        State.NEEDS_RESPONSE,
        State.APPEAL_NEEDS_RESPONSE,
    )

    stripe_id = models.CharField(primary_key=True, max_length=255)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    state = models.CharField(max_length=24, choices=State.choices)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="reversals")
    collection = models.ForeignKey(
        InvoiceCollection, models.PROTECT, related_name="reversals"
    )
    amount_cents = models.PositiveBigIntegerField()
    currency = models.CharField(max_length=3)
    reason = models.CharField(max_length=64, blank=True, default="")
    charge_id = models.CharField(max_length=255)
    payment_method = models.CharField(max_length=255, blank=True, default="")
    card_fingerprint = models.CharField(max_length=64, blank=True, default="")
    credit_note_id = models.CharField(
        max_length=255,
        blank=True,
        default="",
        help_text="Credit note that includes the refund: both give back one amount.",
    )
    evidence_due_at = models.DateTimeField(null=True, blank=True)
    # Of a dispute: what the tenant has paid again, and what support has let go.
    repaid_cents = models.PositiveBigIntegerField(default=0)
    written_off_cents = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField(help_text="When Stripe created it.")
    updated_at = models.DateTimeField(default=timezone.now)

    objects = ReversalQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="dispute") | Q(repaid_cents=0, written_off_cents=0),
                name="reversal_only_disputes_are_repaid",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "kind", "state"]),
            models.Index(fields=["charge_id"]),
            models.Index(
                fields=["evidence_due_at", "-created_at"],
                name="billing_reversals_by_due_date",
            ),
            models.Index(fields=["kind", "state"], name="billing_reversals_by_state"),
            models.Index(fields=["reason"], name="billing_reversals_by_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.stripe_id} {self.state}"
