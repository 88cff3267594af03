from django.db import models


class UsedAuthEvent(models.Model):
    """Event that signed a request (NIP-98); the unique id prevents a replay."""

    event_id = models.CharField(primary_key=True, max_length=64)
    expires_at = models.DateTimeField(
        db_index=True, help_text="Time from which the event is rejected as too old."
    )

    def __str__(self) -> str:
        return self.event_id
