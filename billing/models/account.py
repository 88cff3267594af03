from django.db import models
from django.db.models import Q
from django.utils import timezone


class StripeAccount(models.Model):
    """The one Stripe account, in one mode, whose objects all other rows refer to."""

    id = models.SmallIntegerField(primary_key=True, default=1, editable=False)
    account_id = models.CharField(max_length=255)
    livemode = models.BooleanField(help_text="By the prefix of the key.")
    since = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "Stripe account"
        constraints = [
            models.CheckConstraint(condition=Q(id=1), name="stripe_account_only_one"),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} in {'live' if self.livemode else 'test'} mode"
