"""Payments of invoices: card charges, and Lightning payments that arrived."""

from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from billing.models.collections import InvoiceCollection
from caravel.core.db.indexes import unusual
from lightning.models import LightningInvoice


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
    card_fingerprint = models.CharField(
        max_length=64,
        blank=True,
        default="",
        help_text="Identifies the number that the payment method had then.",
    )
    card_expires = models.CharField(max_length=7, blank=True, default="")
    method_type = models.CharField(max_length=32, default="card")
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
        indexes = [
            models.Index(fields=["payment_method"]),
            unusual("state", "paid", "billing_cards_not_paid"),
            unusual("code", "", "billing_cards_by_code"),
        ]

    def __str__(self) -> str:
        return f"{self.collection_id} {self.state}"

    @property
    def is_bank_debit(self) -> bool:
        return self.method_type not in {"card", "link"}


class Settlement(models.Model):
    """The booking of a Lightning payment that arrived: each is counted once.

    `marking`: the invoice is being marked as paid by it. `marked`: the invoice was
    marked, `marked_cents` were applied. `repaid`: the invoice was paid before, and a
    dispute debt was repaid. `credited`: all of it became credit. What is more than
    the invoice's amount repays its dispute debt by `repaid_cents`, then is credited.
    """

    class State(models.TextChoices):
        MARKING = "marking"
        MARKED = "marked"
        REPAID = "repaid", "repaid (a dispute debt)"
        CREDITED = "credited"

    #: States of the one payment that marks the invoice as paid.
    MARK_STATES = (State.MARKING, State.MARKED)
    #: States after which a payment is booked.
    BOOKED_STATES = (State.MARKED, State.REPAID, State.CREDITED)

    invoice = models.OneToOneField(
        LightningInvoice, models.PROTECT, primary_key=True, related_name="settlement"
    )
    collection = models.ForeignKey(
        InvoiceCollection, models.PROTECT, related_name="settlements"
    )
    state = models.CharField(max_length=16, choices=State.choices)
    marked_cents = models.PositiveBigIntegerField(default=0)
    repaid_cents = models.PositiveBigIntegerField(default=0)
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
        indexes = [
            models.Index(fields=["created_at"], name="billing_settlements_by_age"),
            unusual("state", "marked", "billing_settlements_not_marked"),
        ]

    def __str__(self) -> str:
        return f"{self.collection_id} {self.state}"
