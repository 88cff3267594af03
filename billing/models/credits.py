from collections.abc import Mapping
from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing.exceptions import CreditBlocked
from billing.models.collections import InvoiceCollection
from caravel.core.db.indexes import unusual
from caravel.core.db.work_items import WorkItem, WorkQuerySet
from tenants.models import Tenant


class CreditQuerySet(WorkQuerySet):
    def owed(self) -> Self:
        return self.filter(state=Credit.State.OWED)

    def unblocked(self) -> Self:
        """Owed credits that do not wait for an event that may never come."""
        return self.owed().exclude(last_error_code=CreditBlocked.code)

    def lock(self, pk: int) -> "Credit":
        """Lock a credit in the caller's transaction, after its tenant and invoice."""
        credit: Credit = self.select_for_update().get(pk=pk)
        return credit


class Credit(WorkItem):
    """Money owed to a tenant, until it is posted at Stripe.

    It first reduces an open invoice by `note_cents`. The rest changes the customer's
    balance by `balance_cents`, which is negative if a remainder of the invoice is
    carried over. Both are null until the credit is allocated. A negative amount
    corrects earlier credits, of which too much was given back: it is a debit.
    """

    class Reason(models.TextChoices):
        SURPLUS = "surplus", "overpayment"
        UNSERVED = "unserved", "unused time"

    class State(models.TextChoices):
        OWED = "owed"
        POSTED = "posted"

    task_name = "billing.tasks.post_credit"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="credits")
    reason = models.CharField(max_length=16, choices=Reason.choices)
    source = models.CharField(
        max_length=255,
        help_text="Identifies the cause: one credit per reason and source.",
    )
    currency = models.CharField(max_length=3)
    amount_cents = models.BigIntegerField()
    collection = models.ForeignKey(
        InvoiceCollection,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="credits",
        help_text="Invoice to reduce; for an overpayment it is chosen when posting.",
    )
    covers_from = models.DateTimeField(null=True, blank=True)
    covers_until = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=16, choices=State.choices, default=State.OWED)
    stripe_customer_id = models.CharField(max_length=255, blank=True, default="")
    note_cents = models.PositiveBigIntegerField(null=True, blank=True)
    credit_note_id = models.CharField(max_length=255, blank=True, default="")
    balance_cents = models.BigIntegerField(null=True, blank=True)
    balance_transaction_id = models.CharField(max_length=255, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)
    posted_at = models.DateTimeField(null=True, blank=True)

    objects = CreditQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["reason", "source"], name="credit_once_per_source"
            ),
            models.CheckConstraint(
                condition=Q(state="posted") ^ Q(posted_at__isnull=True),
                name="credit_posted_at_iff_posted",
            ),
            models.CheckConstraint(
                condition=~Q(amount_cents=0), name="credit_amount_not_zero"
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="billing_credits_owed",
                condition=Q(state="owed"),
            ),
            unusual("last_error_code", "", "billing_credits_by_error"),
            models.Index(fields=["source"], name="billing_credits_by_source"),
        ]

    @property
    def stripe_metadata(self) -> dict[str, str]:
        """Metadata of objects created for it at Stripe; a retry finds them by it."""
        return {"caravel_credit": str(self.pk)}

    def matches_metadata(self, metadata: Mapping[str, str]) -> bool:
        """Return whether the metadata is that of an object created for this credit."""
        return self.stripe_metadata.items() <= metadata.items()

    @property
    def description(self) -> str:
        """Text that the tenant sees at Stripe."""
        return f"Credit: {self.get_reason_display()}."

    def __str__(self) -> str:
        return f"{self.reason} {self.amount_cents} {self.currency} {self.state}"
