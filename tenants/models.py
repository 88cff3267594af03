from typing import Any, Self

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone

from caravel.exceptions import CaravelError
from caravel.fields import EncryptedTextField
from caravel.nostr import npub, parse_pubkey, short_npub


def validate_pubkey(value: str) -> None:
    """Raise ValidationError unless the value is a Nostr public key, hex or npub."""
    try:
        parse_pubkey(value)
    except CaravelError as exc:
        raise ValidationError(exc.message, code=exc.code) from exc


class TenantQuerySet(models.QuerySet["Tenant"]):
    def by_customer(self, customer_id: str) -> Self:
        return self.filter(stripe_customer_id=customer_id)


class Tenant(models.Model):
    """Who pays: a Nostr public key, and how we reach its money."""

    pubkey = models.CharField(
        primary_key=True,
        max_length=64,
        validators=[validate_pubkey],
        help_text="An npub, or 64 hex digits.",
    )
    display_name = models.CharField(max_length=100, blank=True, default="")
    email = models.EmailField(blank=True, default="")
    nwc_url = EncryptedTextField()
    nwc_error = models.CharField(max_length=240, blank=True, default="")
    stripe_customer_id = models.CharField(
        max_length=255, unique=True, null=True, blank=True
    )
    stripe_subscription_id = models.CharField(
        max_length=255, unique=True, null=True, blank=True
    )
    past_due_at = models.DateTimeField(null=True, blank=True)
    autopay_paused = models.BooleanField(
        default=False, help_text="Charge neither wallet nor card on our own."
    )
    dunning_exempt = models.BooleanField(
        default=False, help_text="Never suspend relays for unpaid invoices."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(pubkey__regex=r"^[0-9a-f]{64}$"),
                name="tenant_pubkey_is_hex",
            ),
        ]

    def __str__(self) -> str:
        return self.display_name or short_npub(self.pubkey)

    @property
    def npub(self) -> str:
        return npub(self.pubkey)


class Activity(models.Model):
    """What happened to a tenant or one of its relays. Rows are only ever added."""

    class Type(models.TextChoices):
        CREATE_TENANT = "create_tenant"
        UPDATE_TENANT = "update_tenant"
        CREATE_RELAY = "create_relay"
        UPDATE_RELAY = "update_relay"
        CHANGE_RELAY_PLAN = "change_relay_plan"
        ACTIVATE_RELAY = "activate_relay"
        DEACTIVATE_RELAY = "deactivate_relay"
        MARK_RELAY_DELINQUENT = "mark_relay_delinquent"
        REACTIVATE_RELAY = "reactivate_relay"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="activities")
    type = models.CharField(max_length=32, choices=Type.choices)
    subject_type = models.CharField(max_length=32)
    subject_id = models.CharField(max_length=64)
    snapshot = models.JSONField(
        default=dict, help_text="Plan and status after the change."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-pk"]
        verbose_name_plural = "activities"
        indexes = [
            models.Index(fields=["tenant", "-created_at"]),
            models.Index(fields=["subject_type", "subject_id"]),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.subject_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("An activity is never changed.")
        super().save(*args, **kwargs)
