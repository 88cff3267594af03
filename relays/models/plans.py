"""Plans: a monthly price with limits and features."""

from typing import Self

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from caravel.core.db.indexes import unique_reference


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
            unique_reference("stripe_price_id", name="plan_price_once"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_paid(self) -> bool:
        return self.amount_cents > 0

    def allows(self, people: int) -> bool:
        """Return whether a relay on this plan may have so many people."""
        return self.members is None or people <= self.members

    def is_smaller_than(self, other: "Plan") -> bool:
        """Return whether this plan allows fewer people than the other one."""
        if self.members is None:
            return False
        return other.members is None or self.members < other.members

    @property
    def is_sellable(self) -> bool:
        """True if a new relay on this plan can be billed."""
        has_price = bool(self.stripe_price_id) and not self.price_problem
        return has_price or not self.is_paid
