"""Plans and relays."""

import re
import uuid
from typing import Any, Self

from django.core.exceptions import ValidationError
from django.core.validators import (
    MaxLengthValidator,
    MinValueValidator,
    RegexValidator,
)
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone

from caravel.core.db.encrypted_text import EncryptedTextField
from caravel.nostr import generate_secret_key
from tenants.models import Tenant

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


class PlanQuerySet(models.QuerySet["Plan"]):
    def paid(self) -> Self:
        return self.filter(amount_cents__gt=0)


class Plan(models.Model):
    """Monthly price and features of a relay."""

    id = models.SlugField(primary_key=True, max_length=32)
    name = models.CharField(max_length=64)
    amount_cents = models.PositiveIntegerField(
        help_text="Monthly price in the currency's minor unit; 0 is free."
    )
    currency = models.CharField(
        max_length=3, default="usd", validators=[RegexValidator(r"^[a-z]{3}$")]
    )
    members = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Maximum number of members; empty is unlimited.",
    )
    blossom = models.BooleanField(default=False)
    livekit = models.BooleanField(default=False)
    stripe_price_id = models.CharField(
        max_length=255,
        unique=True,
        null=True,
        blank=True,
        help_text="Stripe Price of the plan; set by `stripe_setup`.",
    )
    price_problem = models.CharField(
        max_length=200,
        blank=True,
        default="",
        help_text="Why the price cannot be sold at present; checked every hour.",
    )

    objects = PlanQuerySet.as_manager()

    class Meta:
        ordering = ["amount_cents"]
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_cents__gt=0) | Q(stripe_price_id=None),
                name="plan_free_has_no_price",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_paid(self) -> bool:
        return self.amount_cents > 0

    @property
    def is_sellable(self) -> bool:
        """True if a new relay on this plan can be billed."""
        has_price = bool(self.stripe_price_id) and not self.price_problem
        return has_price or not self.is_paid


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

    def billable(self) -> Self:
        """Return active relays on a paid plan."""
        # The only definition of what a subscription has to contain.
        return self.active().paid()


class Relay(models.Model):
    """Hosted Nostr relay under a subdomain of RELAY_DOMAIN."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        INACTIVE = "inactive", "inactive (switched off manually)"
        DELINQUENT = "delinquent", "delinquent (switched off by billing)"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="relays")
    subdomain = models.CharField(max_length=63, validators=[validate_subdomain])
    name = models.CharField(max_length=100, blank=True, default="")
    icon = models.URLField(max_length=500, blank=True, default="")
    description = models.TextField(
        max_length=1000, blank=True, default="", validators=[MaxLengthValidator(1000)]
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

    secret = EncryptedTextField(default=generate_secret_key)
    synced = models.BooleanField(default=False, editable=False)
    sync_error = models.TextField(blank=True, default="", editable=False)
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
        indexes = [models.Index(fields=["tenant", "status", "plan"])]

    def __str__(self) -> str:
        return self.subdomain

    def clean_fields(self, exclude: Any = None) -> None:
        # DNS ignores case. The unique constraint does, too.
        if isinstance(self.subdomain, str):
            self.subdomain = self.subdomain.lower()
        super().clean_fields(exclude=exclude)
