"""Tenants, their activity log and notices."""

from datetime import datetime, timedelta
from functools import cache
from typing import Any, Self
from zoneinfo import ZoneInfo, available_timezones

from django.contrib.postgres.indexes import GinIndex, OpClass
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Upper
from django.utils import timezone

from caravel.core.db.encrypted_text import EncryptedTextField
from caravel.core.db.indexes import unique_reference, unusual
from caravel.core.db.work_items import WorkItem, WorkQuerySet
from caravel.core.exceptions import CaravelError
from caravel.nostr import npub, parse_pubkey, short_npub


def validate_pubkey(value: str) -> None:
    """Raise ValidationError unless the value is a Nostr public key, hex or npub."""
    try:
        parse_pubkey(value)
    except CaravelError as exc:
        raise ValidationError(exc.message, code=exc.code) from exc


def validate_time_zone(value: str) -> None:
    """Raise ValidationError unless the value is a name of the tz database."""
    if value not in _time_zones():
        raise ValidationError("There is no such time zone.", code="invalid")


@cache
def _time_zones() -> set[str]:
    return available_timezones()


def validate_one_line(value: str) -> None:
    """Raise ValidationError for line breaks and other characters without a shape."""
    if not value.isprintable():
        raise ValidationError("A name has only printable characters.", code="invalid")


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
    """Customer: a Nostr public key with its wallet and its ids at Stripe."""

    pubkey = models.CharField(
        primary_key=True,
        max_length=64,
        validators=[validate_pubkey],
        help_text="An npub, or 64 hex digits.",
    )
    display_name = models.CharField(
        max_length=100, blank=True, default="", validators=[validate_one_line]
    )
    email = models.EmailField(blank=True, default="")
    email_confirmed_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="The owner of the address has followed the link in our e-mail.",
    )
    payment_notices = models.BooleanField(
        default=False, help_text="Send a notice for each payment."
    )
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_time_zone],
        help_text="Time zone of times in messages, such as Europe/Berlin.",
    )
    nwc_url = EncryptedTextField()
    nwc_error = models.CharField(max_length=240, blank=True, default="")
    wallet_alias = models.CharField(
        max_length=100, blank=True, default="", help_text="The wallet's own name."
    )
    wallet_hosts = models.CharField(
        max_length=240,
        blank=True,
        default="",
        help_text="Relays on which the wallet receives requests.",
    )
    stripe_customer_id = models.CharField(max_length=255, null=True, blank=True)
    stripe_subscription_id = models.CharField(max_length=255, null=True, blank=True)
    past_due_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="An invoice has needed a manual payment since then.",
    )
    payment_overdue_since = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Purchases blocked since (until an overdue invoice is paid).",
    )
    billing_on_hold_since = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Purchases blocked since: the subscription is paused, or Stripe "
        "refuses to finalize an invoice.",
    )
    autopay_paused = models.BooleanField(
        default=False, help_text="Never charge wallet or card automatically."
    )
    dunning_exempt = models.BooleanField(
        default=False, help_text="Never suspend relays for unpaid invoices."
    )
    first_paid_at = models.DateTimeField(
        null=True, blank=True, help_text="First payment: until then, quotas are lower."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    closed_at = models.DateTimeField(
        null=True, blank=True, help_text="The account is closed: it gets no relays."
    )

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(pubkey__regex=r"^[0-9a-f]{64}$"),
                name="tenant_pubkey_is_hex",
            ),
            unique_reference("stripe_customer_id", name="tenant_customer_once"),
            unique_reference("stripe_subscription_id", name="tenant_subscription_once"),
        ]
        indexes = [
            models.Index(fields=["created_at"], name="tenants_by_age"),
            models.Index(
                fields=["pubkey"],
                name="tenants_without_name",
                condition=Q(display_name=""),
            ),
            models.Index(
                fields=["created_at"],
                name="tenants_in_trouble",
                condition=Q(payment_overdue_since__isnull=False)
                | Q(billing_on_hold_since__isnull=False)
                | Q(past_due_at__isnull=False),
            ),
            models.Index(
                fields=["closed_at"],
                name="tenants_closed_with_wallet",
                condition=Q(closed_at__isnull=False) & ~Q(nwc_url=""),
            ),
            models.Index(
                fields=["created_at"],
                name="tenants_autopay_paused",
                condition=Q(autopay_paused=True),
            ),
            models.Index(
                fields=["created_at"],
                name="tenants_exempt",
                condition=Q(dunning_exempt=True),
            ),
            # For `icontains`: the admin finds any part of a name or an address.
            GinIndex(
                OpClass(Upper("display_name"), name="gin_trgm_ops"),
                OpClass(Upper("email"), name="gin_trgm_ops"),
                name="tenants_by_words",
            ),
        ]

    def __str__(self) -> str:
        return self.display_name or short_npub(self.pubkey)

    @property
    def npub(self) -> str:
        return npub(self.pubkey)

    @property
    def email_confirmed(self) -> bool:
        return self.email_confirmed_at is not None

    @property
    def mail_address(self) -> str:
        """The address that may get e-mails: "" until its owner has confirmed it."""
        return self.email if self.email_confirmed else ""

    @property
    def tzinfo(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    @property
    def has_wallet(self) -> bool:
        return bool(self.nwc_url)

    @property
    def must_pay_first(self) -> bool:
        """True if an overdue invoice must be paid before any further purchase."""
        return self.payment_overdue_since is not None and not self.dunning_exempt

    @property
    def is_purchase_blocked(self) -> bool:
        """True if an overdue invoice or a hold of its billing blocks purchases."""
        return self.must_pay_first or self.billing_on_hold_since is not None


class Activity(models.Model):
    """Append-only log of changes to a tenant or one of its relays."""

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
        DELETE_RELAY = "delete_relay"
        COMPLETE_RELAY_SYNC = "complete_relay_sync"
        FAIL_RELAY_SYNC = "fail_relay_sync"
        EXPORT_RELAY = "export_relay"
        RESOLVE_INVOICE = "resolve_invoice"

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
            models.Index(fields=["type"], name="tenants_activities_by_type"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.subject_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        # A database trigger (migration 0002) also forbids updates and deletes.
        if not self._state.adding:
            raise TypeError("Activities are append-only.")
        super().save(*args, **kwargs)


class NoticeQuerySet(WorkQuerySet):
    def waiting(self) -> Self:
        return self.filter(state=Notice.State.WAITING)

    def unsent(self) -> Self:
        """Return notices that are waiting, or failed and can be resent by support."""
        return self.filter(state__in=(Notice.State.WAITING, Notice.State.FAILED))


def default_give_up_at() -> datetime:
    """Return when to give up on a notice that starts to wait now."""
    return timezone.now() + timedelta(days=7)


class Notice(WorkItem):
    """Message to a tenant, sent once by private message and by e-mail.

    `wrap` is the signed gift wrap of the private message, `message_id` the Message-ID
    of the e-mail.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        SENT = "sent"
        DROPPED = "dropped", "dropped (no longer applies)"
        FAILED = "failed", "failed (resend manually)"

    task_name = "tenants.tasks.send_notice"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="notices")
    kind = models.SlugField(max_length=64, db_index=False)
    subject = models.CharField(
        max_length=255, help_text="Object of the notice, such as a Stripe invoice id."
    )
    title = models.CharField(max_length=200)
    text = models.TextField(
        # Encrypted twice and JSON-escaped, a longer text would exceed the size of
        # events that relays accept.
        validators=[MaxLengthValidator(4000)]
    )
    state = models.CharField(
        max_length=16, choices=State.choices, default=State.WAITING
    )
    created_at = models.DateTimeField(default=timezone.now)
    give_up_at = models.DateTimeField(default=default_give_up_at)
    sent_at = models.DateTimeField(null=True, blank=True)
    dropped_at = models.DateTimeField(null=True, blank=True)
    #: End of the current worker's claim; the exact value identifies that claim.
    held_until = models.DateTimeField(null=True, blank=True)
    # Signed and stored before the first attempt, so that every attempt publishes the
    # same event: clients show a private message once for each event.
    wrap = models.JSONField(null=True, blank=True)
    relays = models.JSONField(
        default=list, blank=True, help_text="Relays that accepted the message."
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
            unusual("state", "sent", "tenants_unsent_notices"),
            unusual("last_error_code", "", "tenants_notices_by_error"),
            models.Index(fields=["kind"], name="tenants_notices_by_kind"),
            models.Index(
                fields=["subject"],
                name="tenants_notices_by_subject",
                opclasses=["varchar_pattern_ops"],
            ),
            unusual("message_id", "", "tenants_notices_by_message_id"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject} {self.state}"

    @property
    def event_id(self) -> str:
        """Id of the gift wrap, or "" before the first attempt."""
        return str(self.wrap["id"]) if self.wrap else ""
