from django.db import models


class StripeCursor(models.Model):
    """Position up to which one of Stripe's lists has been read."""

    #: Name of the cursor of the list of events.
    EVENTS = "events"

    name = models.CharField(primary_key=True, max_length=32)
    read_until = models.DateTimeField(
        help_text="Objects created before this time have been read."
    )
    read_at = models.DateTimeField(
        null=True, blank=True, help_text="When the list was last read to its end."
    )
    last_error = models.TextField(blank=True, default="")
    last_error_code = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        ordering = ["name"]
        verbose_name = "Stripe cursor"

    def __str__(self) -> str:
        return self.name
