from datetime import datetime, timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from caravel.core.db.encrypted_text import EncryptedTextField
from caravel.core.db.indexes import unusual
from caravel.core.db.work_items import WorkItem, WorkQuerySet
from lightning.models.invoices import LightningInvoice
from tenants.models import Tenant


class NwcPaymentQuerySet(WorkQuerySet):
    def pending(self) -> Self:
        return self.filter(state=NwcPayment.State.PENDING)

    def unsent(self) -> Self:
        """Pending attempts whose request has not been sent."""
        return self.pending().filter(request_event_id=None)

    def unfinished(self) -> Self:
        """Pending attempts that still need the tenant's wallet.

        The request is not sent, or the wallet that has proven its payment has not named
        its node.
        """
        unnamed = Q(proven_at__isnull=False, node_pubkey="")
        return self.pending().filter(Q(request_event_id=None) | unnamed)


class NwcPayment(WorkItem):
    """One attempt to have a tenant's wallet pay one bolt11, with a single request.

    It stays `pending` until our own wallet knows: settled is `paid`, dead is `failed`.
    Only a refusal ends it earlier: `refused`; most of them must be confirmed by our own
    wallet first. As a work item it is due while its request or its node is missing.
    """

    task_name = "lightning.tasks.run_nwc_payment"

    class State(models.TextChoices):
        PENDING = "pending"
        PAID = "paid"
        REFUSED = "refused", "refused (nothing was spent)"
        FAILED = "failed", "failed (unpaid, and too late to be paid)"

    invoice = models.OneToOneField(
        LightningInvoice, models.PROTECT, related_name="payment"
    )
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="nwc_payments")
    stripe_invoice_id = models.CharField(max_length=255, db_index=True)
    # A copy: the tenant may change wallets while the attempt is pending.
    nwc_url = EncryptedTextField()
    wallet_pubkey = models.CharField(max_length=64)
    client_pubkey = models.CharField(max_length=64)
    state = models.CharField(
        max_length=16, choices=State.choices, default=State.PENDING
    )
    # Committed before the request is sent; a trigger forbids another value.
    request_event_id = models.CharField(
        max_length=64, unique=True, null=True, blank=True
    )
    sent_at = models.DateTimeField(
        null=True, blank=True, help_text="When its request was about to be sent."
    )
    code = models.CharField(
        max_length=64, blank=True, default="", help_text="The wallet's error code."
    )
    message = models.CharField(max_length=240, blank=True, default="")
    replied_at = models.DateTimeField(null=True, blank=True)
    refused_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When the wallet refused; our own wallet must confirm it.",
    )
    # Stored at once, and only if it hashes to the payment hash.
    preimage = EncryptedTextField()
    proven_at = models.DateTimeField(
        null=True, blank=True, help_text="When the wallet returned the preimage."
    )
    node_pubkey = models.CharField(
        max_length=66,
        blank=True,
        default="",
        help_text="The node of the tenant's wallet, as the wallet reports it.",
    )
    created_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True, blank=True)

    objects = NwcPaymentQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name = "NWC payment"
        constraints = [
            models.UniqueConstraint(
                fields=["stripe_invoice_id"],
                condition=Q(state="pending"),
                name="nwc_one_pending_per_invoice",
            ),
            models.CheckConstraint(
                condition=Q(state="pending") ^ Q(resolved_at__isnull=False),
                name="nwc_resolved_iff_not_pending",
            ),
            models.CheckConstraint(
                condition=Q(request_event_id=None) ^ Q(sent_at__isnull=False),
                name="nwc_sent_at_iff_request",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="nwc_unsent",
                condition=Q(state="pending", request_event_id=None),
            ),
            unusual("state", "paid", "nwc_not_paid"),
            unusual("code", "", "nwc_by_code"),
        ]

    def __str__(self) -> str:
        return f"{self.stripe_invoice_id} {self.state}"

    @property
    def refusal_final_at(self) -> datetime | None:
        """The time from which our wallet's answer «not paid» confirms a refusal."""
        if self.refused_at is None:
            return None
        return self.refused_at + timedelta(seconds=settings.LIGHTNING_REFUSAL_PAUSE)
