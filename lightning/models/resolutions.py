from typing import Any

from django.db import models
from django.utils import timezone

from lightning.models.invoices import LightningInvoice


class Resolution(models.Model):
    """A person's decision about a Lightning invoice that no answer could end.

    Never changed or deleted. The answers are those that the person saw.
    """

    class Outcome(models.TextChoices):
        SETTLED = "settled", "settled (the money has arrived)"
        DEAD = "dead", "dead (nothing has arrived, and nothing will)"

    invoice = models.ForeignKey(
        LightningInvoice, models.PROTECT, related_name="resolutions"
    )
    outcome = models.CharField(max_length=16, choices=Outcome.choices)
    reason = models.TextField()
    evidence = models.TextField(
        help_text="What proves it, such as the entry in our wallet's own history."
    )
    actor = models.CharField(max_length=150, help_text="The user who decided.")
    receiver_answer = models.CharField(max_length=240, blank=True, default="")
    payer_answer = models.CharField(max_length=240, blank=True, default="")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.outcome} by {self.actor}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        # A database trigger (migration 0004) also forbids updates and deletes.
        if not self._state.adding:
            raise TypeError("Resolutions are append-only.")
        super().save(*args, **kwargs)
