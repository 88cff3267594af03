from typing import Self

from django.db import models
from django.utils import timezone

from caravel.core.db.indexes import unusual
from caravel.core.db.work_items import WorkItem, WorkQuerySet
from tenants.models.tenants import Tenant


class EmailConfirmationQuerySet(WorkQuerySet):
    def waiting(self) -> Self:
        return self.filter(state=EmailConfirmation.State.WAITING)


class EmailConfirmation(WorkItem):
    """The e-mail with the link by which an address's owner confirms it.

    Stays after it was sent: it says when the mailbox last got one.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "waiting (also for the mailbox's next week)"
        SENT = "sent"
        DROPPED = "dropped", "dropped (no longer asked for)"
        REFUSED = "refused", "refused (by the mail server)"

    task_name = "tenants.tasks.send_confirmation"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="confirmations")
    address = models.EmailField()
    mailbox = models.CharField(
        max_length=254,
        db_index=True,
        help_text="The address without capitals, dots and tags: spellings of one "
        "mailbox count as one.",
    )
    state = models.CharField(
        max_length=16, choices=State.choices, default=State.WAITING
    )
    asked_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(
        null=True, blank=True, help_text="When the latest link was sent."
    )
    #: End of the current worker's claim; the exact value identifies that claim.
    held_until = models.DateTimeField(null=True, blank=True)
    message_id = models.CharField(max_length=255, blank=True, default="")

    objects = EmailConfirmationQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "mailbox"], name="confirmation_once"
            ),
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                name="tenants_waiting_confirmations",
                condition=models.Q(state="waiting"),
            ),
            unusual("state", "sent", "tenants_unsent_confirmations"),
            unusual("last_error_code", "", "tenants_confirmations_by_error"),
            models.Index(
                fields=["address"],
                name="tenants_confirmed_addresses",
                opclasses=["varchar_pattern_ops"],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.address} {self.state}"
