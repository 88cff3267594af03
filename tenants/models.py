from datetime import datetime, timedelta
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from caravel.core.db.encrypted_text import EncryptedTextField
from caravel.core.db.work_items import WorkItem, WorkQuerySet
from caravel.core.exceptions import CaravelError
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

    def lock(self, pubkey: str) -> "Tenant":
        """Lock a tenant in the caller's transaction. Raises Tenant.DoesNotExist.

        Lock the tenant before its relays, invoices and credits: see the lock order in
        docs/architecture.md.
        """
        # FOR NO KEY UPDATE, so that rows with a foreign key to the tenant can be added
        # meanwhile: a payment is booked while its tenant's relays are changed.
        return self.select_for_update(no_key=True).get(pk=pubkey)


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
    wallet_alias = models.CharField(
        max_length=100, blank=True, default="", help_text="What it calls itself."
    )
    wallet_hosts = models.CharField(
        max_length=240, blank=True, default="", help_text="The relays it listens on."
    )
    stripe_customer_id = models.CharField(
        max_length=255, unique=True, null=True, blank=True
    )
    stripe_subscription_id = models.CharField(
        max_length=255, unique=True, null=True, blank=True
    )
    past_due_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when an invoice waits for a person."
    )
    payment_overdue_since = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Since when nothing more is sold, until something is paid.",
    )
    autopay_paused = models.BooleanField(
        default=False, help_text="Charge neither wallet nor card on our own."
    )
    dunning_exempt = models.BooleanField(
        default=False, help_text="Never suspend relays for unpaid invoices."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    closed_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when it gets no relays any more."
    )

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

    @property
    def has_wallet(self) -> bool:
        return bool(self.nwc_url)

    @property
    def must_pay_first(self) -> bool:
        """Whether something must be paid before anything more is sold."""
        return self.payment_overdue_since is not None and not self.dunning_exempt


class Activity(models.Model):
    """What happened to a tenant or one of its relays. Rows are only ever added."""

    class Type(models.TextChoices):
        CREATE_TENANT = "create_tenant"
        UPDATE_TENANT = "update_tenant"
        CLOSE_TENANT = "close_tenant"
        REOPEN_TENANT = "reopen_tenant"
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


class NoticeQuerySet(WorkQuerySet):
    def waiting(self) -> Self:
        return self.filter(state=Notice.State.WAITING)

    def unsent(self) -> Self:
        """Notices that may still go out: by themselves, or when support sends them."""
        return self.filter(state__in=(Notice.State.WAITING, Notice.State.FAILED))


def default_give_up_at() -> datetime:
    """Return until when a notice that begins to wait now is tried."""
    return timezone.now() + timedelta(days=7)


class Notice(WorkItem):
    """Something to tell a tenant, once: by a private message, and by e-mail if it can.

    `wrap` is the signed event of the message, `message_id` that of the e-mail. Both are
    stored before the first try, and every later one sends the same again.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        SENT = "sent"
        DROPPED = "dropped", "dropped (no longer true)"
        FAILED = "failed", "failed (given up; send again by hand)"

    task_name = "tenants.tasks.send_notice"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="notices")
    kind = models.SlugField(max_length=64, db_index=False)
    subject = models.CharField(
        max_length=255, help_text="What it is about, such as a Stripe invoice."
    )
    title = models.CharField(max_length=200)
    text = models.TextField(
        # Encrypted twice and quoted, more would not fit into what relays take.
        validators=[MaxLengthValidator(4000)]
    )
    state = models.CharField(
        max_length=16, choices=State.choices, default=State.WAITING
    )
    created_at = models.DateTimeField(default=timezone.now)
    give_up_at = models.DateTimeField(default=default_give_up_at)
    sent_at = models.DateTimeField(null=True, blank=True)
    dropped_at = models.DateTimeField(null=True, blank=True)
    #: Until when the worker that has it now may send it; the value is its claim.
    held_until = models.DateTimeField(null=True, blank=True)
    wrap = models.JSONField(null=True, blank=True)
    relays = models.JSONField(
        default=list, blank=True, help_text="The relays that took the message."
    )
    note = models.CharField(max_length=240, blank=True, default="")
    dm_sent_at = models.DateTimeField(null=True, blank=True)
    message_id = models.CharField(max_length=255, blank=True, default="")
    email_sent_at = models.DateTimeField(null=True, blank=True)

    objects = NoticeQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "subject", "kind"], name="notice_once"
            ),
            models.CheckConstraint(
                condition=Q(state="sent") ^ Q(sent_at__isnull=True),
                name="notice_sent_at_iff_sent",
            ),
            models.CheckConstraint(
                condition=Q(state="dropped") ^ Q(dropped_at__isnull=True),
                name="notice_dropped_at_iff_dropped",
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="tenants_waiting_notices",
                condition=Q(state="waiting"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject} {self.state}"

    @property
    def event_id(self) -> str:
        """The id of the message's event, once there is one."""
        return str(self.wrap["id"]) if self.wrap else ""


class UsedAuthEvent(models.Model):
    """An event that signed a request (NIP-98): it signs no other."""

    event_id = models.CharField(primary_key=True, max_length=64)
    expires_at = models.DateTimeField(
        db_index=True, help_text="From when it is too old to be used anyway."
    )

    def __str__(self) -> str:
        return self.event_id
