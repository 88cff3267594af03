"""Relays: what a tenant has configured, and what was last seen of it."""

import re
import uuid
from typing import Any, Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Cast, Concat, Lower, Replace, Upper
from django.utils import timezone

from caravel.core.db.encrypted_text import EncryptedTextField
from caravel.nostr import generate_secret_key
from relays.models.plans import Plan
from tenants.models import Notice, Tenant

_RESERVED = """
about abuse account accounts admin api app assets autoconfig autodiscover billing blog
blossom caravel cdn chat dashboard dev dns docs email ftp git hello help hostmaster
imap info invoice invoices livekit localhost login mail media metrics mx news noreply
nostr ns ns1 ns2 oauth official owner pay payment payments pop pop3 portal postmaster
relay relays robot root security sftp shop smtp ssl staging static status stripe
support sysadmin system test tls webhook webhooks webmail webmaster wpad www zooid
"""
#: Names that could impersonate the operator, or that other services commonly use.
RESERVED_SUBDOMAINS = frozenset(_RESERVED.split())
#: Lower-case DNS label (RFC 1035; RFC 1123 also allows a leading digit).
SUBDOMAIN_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def validate_subdomain(value: str) -> None:
    """Raise ValidationError, with code `subdomain-invalid` or `-reserved`."""
    label = str(value).lower()
    # Hyphens at 3 and 4 are for punycode (xn--), which could look like another name.
    if not SUBDOMAIN_PATTERN.fullmatch(label) or label[2:4] == "--":
        raise ValidationError(
            "A subdomain has 1 to 63 letters, digits or hyphens, "
            "and does not start or end with a hyphen.",
            code="subdomain-invalid",
        )
    if label in RESERVED_SUBDOMAINS:
        raise ValidationError("This name is reserved.", code="subdomain-reserved")


class RelayQuerySet(models.QuerySet["Relay"]):
    def existing(self) -> Self:
        """Return relays that were not deleted."""
        return self.filter(deleted_at=None)

    def active(self) -> Self:
        return self.filter(status=Relay.Status.ACTIVE)

    def delinquent(self) -> Self:
        return self.filter(status=Relay.Status.DELINQUENT)

    def paid(self) -> Self:
        return self.filter(plan__amount_cents__gt=0)

    def suspendable(self) -> Self:
        """Return active relays on a paid plan: a debt switches them off."""
        return self.active().paid()

    def billable(self) -> Self:
        """Return active relays on a paid plan that were served at least once."""
        # The only definition of what a subscription has to contain.
        relays = self.active().paid()
        if settings.BILLING_SERVED_RELAYS_ONLY:
            relays = relays.exclude(first_served_at=None)
        return relays


class Relay(models.Model):
    """Hosted Nostr relay under a subdomain of RELAY_DOMAIN."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        INACTIVE = "inactive", "inactive (switched off manually)"
        DELINQUENT = "delinquent", "delinquent (switched off by billing)"

    class Unbilled(models.TextChoices):
        """Reasons why no subscription contains a relay."""

        FREE = "relay-is-free", "free plan"
        INACTIVE = "relay-is-inactive", "switched off"
        DELINQUENT = "relay-is-delinquent", "switched off by billing"
        NEVER_SERVED = "relay-never-served", "never seen running"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="relays")
    subdomain = models.CharField(max_length=63, validators=[validate_subdomain])
    name = models.CharField(max_length=100, blank=True, default="")
    icon = models.URLField(max_length=500, blank=True, default="")
    description = models.TextField(
        max_length=1000, blank=True, default="", validators=[MaxLengthValidator(1000)]
    )
    # Written at the relay, where there is no limit, it would not be valid here.
    longer_description = models.JSONField(
        blank=True,
        default=dict,
        editable=False,
        help_text="Description at the relay that is too long to be stored as ours: its "
        "text, and instead of which description.",
    )
    prompt_removed_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When its owner removed the payment prompt from the description.",
    )
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="relays")
    status = models.CharField(
        max_length=16, choices=Status.choices, default=Status.ACTIVE
    )

    public_join = models.BooleanField(default=False)
    strip_signatures = models.BooleanField(default=False)
    groups_enabled = models.BooleanField(default=True)
    management_enabled = models.BooleanField(default=True)
    push_enabled = models.BooleanField(default=True)
    blossom_enabled = models.BooleanField(default=False)
    livekit_enabled = models.BooleanField(default=False)

    admins = ArrayField(
        models.CharField(max_length=64),
        blank=True,
        default=list,
        help_text="Public keys that may manage the relay and invite members.",
    )
    moderators = ArrayField(
        models.CharField(max_length=64),
        blank=True,
        default=list,
        help_text="Public keys that may invite members.",
    )
    members_can_invite = models.BooleanField(default=False)

    secret = EncryptedTextField(default=generate_secret_key)
    # Name of its tables in zooid's database: letters and digits, whatever the id.
    schema = models.GeneratedField(
        expression=Concat(
            Value("r"),
            Replace(Cast("id", models.CharField()), Value("-"), Value("")),
        ),
        output_field=models.CharField(max_length=33),
        db_persist=True,
    )
    synced = models.BooleanField(
        default=False,
        editable=False,
        help_text="zooid has acknowledged the present configuration, and shows it.",
    )
    sync_error = models.TextField(
        blank=True,
        default="",
        editable=False,
        help_text="Why not, in words for the tenant.",
    )
    first_served_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="First proof that it runs."
    )
    served_at = models.DateTimeField(
        "last seen running",
        null=True,
        blank=True,
        editable=False,
        help_text="Last time that its NIP-11 document was read.",
    )
    dark_at = models.DateTimeField(
        "last seen switched off",
        null=True,
        blank=True,
        editable=False,
        help_text="Last time that there was no relay under its name.",
    )

    people = models.PositiveIntegerField(
        null=True,
        blank=True,
        editable=False,
        help_text="Members without the relay's own key, the owner, admins and "
        "moderators, when last counted.",
    )
    people_counted_at = models.DateTimeField(null=True, blank=True, editable=False)
    over_limit_since = models.DateTimeField(null=True, blank=True, editable=False)

    delinquent_since = models.DateTimeField(null=True, blank=True, editable=False)
    export_offer_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When the owner of a delinquent relay is offered an export.",
    )
    export_offered_at = models.DateTimeField(null=True, blank=True, editable=False)
    deletion_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="Announced date: a delinquent relay is not deleted before.",
    )
    deletion_notice = models.ForeignKey(
        Notice,
        models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        help_text="Warning that named this date: without one, nothing is deleted.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # The row stays: invoices, activities and zooid refer to it.
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = RelayQuerySet.as_manager()

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.UniqueConstraint(
                Lower("subdomain"),
                # The name of a deleted relay is free.
                condition=Q(deleted_at=None),
                name="relay_subdomain_unique",
                violation_error_message="This subdomain is taken.",
                violation_error_code="subdomain-exists",
            ),
            # Billing and zooid treat a deleted relay like any that is off.
            models.CheckConstraint(
                condition=Q(deleted_at=None) | Q(status="inactive"),
                name="relay_deleted_is_inactive",
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "status", "plan"]),
            models.Index(
                fields=["deletion_at"],
                name="relays_delinquent_relays",
                condition=Q(status="delinquent"),
            ),
            models.Index(fields=["created_at"], name="relays_by_age"),
            models.Index(fields=["status", "created_at"], name="relays_by_status"),
            models.Index(fields=["subdomain"], name="relays_by_subdomain"),
            models.Index(
                fields=["people_counted_at"],
                name="relays_to_count",
                condition=Q(status="active", first_served_at__isnull=False),
            ),
            models.Index(
                fields=["plan", "people"],
                name="relays_within_limit",
                condition=Q(status="active", over_limit_since=None),
            ),
            models.Index(
                fields=["over_limit_since"],
                name="relays_over_limit",
                condition=Q(over_limit_since__isnull=False),
            ),
            models.Index(
                fields=["created_at"],
                name="relays_never_served",
                condition=Q(status="active", first_served_at=None),
            ),
            models.Index(
                fields=["created_at"],
                name="relays_unsynced",
                condition=Q(synced=False),
            ),
            models.Index(
                fields=["created_at"],
                name="relays_deleted",
                condition=Q(deleted_at__isnull=False),
            ),
            # For `icontains`: the admin finds any part of a name.
            GinIndex(
                OpClass(Upper("subdomain"), name="gin_trgm_ops"),
                OpClass(Upper("name"), name="gin_trgm_ops"),
                name="relays_by_words",
            ),
        ]

    def __str__(self) -> str:
        return self.subdomain

    @property
    def unbilled_reason(self) -> str:
        """The reason why it is not `billable()`, "" if it is."""
        if not self.plan.is_paid:
            return self.Unbilled.FREE
        if self.status != self.Status.ACTIVE:
            is_delinquent = self.status == self.Status.DELINQUENT
            return self.Unbilled.DELINQUENT if is_delinquent else self.Unbilled.INACTIVE
        if settings.BILLING_SERVED_RELAYS_ONLY and self.first_served_at is None:
            return self.Unbilled.NEVER_SERVED
        return ""

    def clean_fields(self, exclude: Any = None) -> None:
        # DNS ignores case. The unique constraint does, too.
        if isinstance(self.subdomain, str):
            self.subdomain = self.subdomain.lower()
        super().clean_fields(exclude=exclude)
