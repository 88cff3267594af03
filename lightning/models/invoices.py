from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from caravel.core.db.encrypted_text import EncryptedTextField
from caravel.core.db.indexes import unusual
from caravel.core.db.work_items import WorkItem, WorkQuerySet
from tenants.models import Tenant


class LightningInvoiceQuerySet(WorkQuerySet):
    def of(self, stripe_invoice_id: str) -> Self:
        """Every invoice issued for a Stripe invoice, oldest first."""
        return self.filter(stripe_invoice_id=stripe_invoice_id).order_by("pk")

    def open(self) -> Self:
        return self.filter(state=LightningInvoice.State.OPEN)

    def watched(self) -> Self:
        """Open and expired invoices: a payment may still arrive."""
        states = [LightningInvoice.State.OPEN, LightningInvoice.State.EXPIRED]
        return self.filter(state__in=states)

    def live(self) -> Self:
        """Watched invoices that exclude another payment method.

        They are open, or were presented to a payer, or have a pending attempt.
        """
        return self.watched().filter(
            Q(state=LightningInvoice.State.OPEN)
            | Q(shown_at__isnull=False)
            | Q(payment__state="pending")
        )

    def undecided(self, now: datetime) -> Self:
        """Live invoices that may have been paid, though our wallet does not say so.

        The payer's wallet has returned the preimage, or the answers contradict each
        other, or ours gives none though it would be final. Nobody is suspended or
        reminded because of them.
        """
        margin = timedelta(seconds=settings.LIGHTNING_MARGIN)
        return self.live().filter(
            Q(contradicted_at__isnull=False)
            | Q(payment__state="pending", payment__proven_at__isnull=False)
            | Q(expires_at__lte=now - margin)
        )


class LightningInvoice(WorkItem):
    """A bolt11 that our wallet issued for a Stripe invoice.

    `open`: can be paid. `expired`: past its expiry or retired, but still watched, since
    some nodes pay late. `settled`: paid. `dead`: its wallet reported it unpaid
    LIGHTNING_MARGIN after its expiry. As a work item it is due at its next poll.
    """

    class State(models.TextChoices):
        OPEN = "open"
        EXPIRED = "expired", "expired (still watched for a late payment)"
        SETTLED = "settled"
        DEAD = "dead", "dead (unpaid, and too late to be paid)"

    tenant = models.ForeignKey(
        Tenant, models.PROTECT, related_name="lightning_invoices"
    )
    stripe_invoice_id = models.CharField(max_length=255, db_index=True)
    amount_cents = models.PositiveBigIntegerField(
        help_text="The amount to pay, in the currency's minor unit."
    )
    currency = models.CharField(max_length=3)
    amount_msat = models.PositiveBigIntegerField()
    rate = models.DecimalField(
        max_digits=32, decimal_places=19, help_text="Price of one bitcoin."
    )
    rate_sources = models.JSONField(default=list)
    bolt11 = models.TextField()
    payment_hash = models.CharField(max_length=64, unique=True)
    wallet_pubkey = models.CharField(
        max_length=64, help_text="Our wallet that issued it, and that is polled for it."
    )
    issued_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    state = models.CharField(max_length=16, choices=State.choices, default=State.OPEN)
    # Triggers forbid it for an invoice that was given to a wallet, and vice versa:
    # two payers can pay one payment hash, and the second payment is lost.
    shown_at = models.DateTimeField(
        null=True, blank=True, help_text="When it was presented to a payer."
    )
    answered_at = models.DateTimeField(
        null=True, blank=True, help_text="When our wallet last reported its status."
    )
    answer = models.CharField(
        max_length=240,
        blank=True,
        default="",
        help_text="Our wallet's last answer about it, without secrets.",
    )
    contradicted_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Since when only a person can decide whether it was paid.",
    )
    settled_at = models.DateTimeField(null=True, blank=True)
    received_msat = models.PositiveBigIntegerField(null=True, blank=True)
    preimage = EncryptedTextField()

    objects = LightningInvoiceQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name = "Lightning invoice"
        constraints = [
            models.UniqueConstraint(
                fields=["stripe_invoice_id"],
                condition=Q(state="open"),
                name="lightning_one_open_per_invoice",
            ),
            models.CheckConstraint(
                condition=Q(state="settled") ^ Q(settled_at__isnull=True),
                name="lightning_settled_at_iff_settled",
            ),
            models.CheckConstraint(
                condition=Q(amount_msat__gt=0, amount_cents__gt=0),
                name="lightning_amount_positive",
            ),
        ]
        indexes = [
            models.Index(
                fields=["wallet_pubkey", "next_attempt_at"],
                name="lightning_watched",
                condition=Q(state__in=["open", "expired"]),
            ),
            models.Index(
                fields=["contradicted_at"],
                name="lightning_contradicted",
                condition=Q(contradicted_at__isnull=False),
            ),
            unusual("last_error_code", "", "lightning_by_error"),
        ]

    def __str__(self) -> str:
        return f"{self.payment_hash[:12]} {self.state}"

    @property
    def final_at(self) -> datetime:
        """The time from which our wallet's answer «not paid» is final."""
        return self.expires_at + timedelta(seconds=settings.LIGHTNING_MARGIN)

    @property
    def is_watched(self) -> bool:
        return self.state in {self.State.OPEN, self.State.EXPIRED}
