"""The transactional outbox: rows of work whose task message may be lost.

A row is *due* when `next_attempt_at` has come and no message about it is under way.
`WorkItem.enqueue()` records the message in `enqueued_at` and sends it on commit. If the
broker or a worker loses it, a sweep claims the row after ENQUEUED_TIMEOUT seconds and
sends another; if it could not be sent, the next sweep does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self
from uuid import UUID

import structlog
from celery import current_app
from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from caravel.core.exceptions import CaravelError
from caravel.core.redaction import redact_start

logger = structlog.get_logger(__name__)

_MIN_DELAY = timedelta(seconds=15)
_MAX_DELAY = timedelta(hours=1)


def backoff(failures: int) -> timedelta:
    """Return the delay after the n-th failure in a row: 15 s, doubling up to 1 h."""
    # The exponent is limited because a timedelta overflows.
    return min(_MIN_DELAY * (1 << min(failures - 1, 12)), _MAX_DELAY)


@contextmanager
def isolated(**item: object) -> Iterator[None]:
    """Log any error of one item of a batch, so that it does not end the others."""
    try:
        yield
    except Exception:  # of any kind, even of the database
        logger.exception("item_failed", **item)


class WorkQuerySet(models.QuerySet[Any]):
    def due(self, now: datetime) -> Self:
        """Return rows whose time has come and that have no message under way."""
        lost_before = now - timedelta(seconds=settings.ENQUEUED_TIMEOUT)
        idle = models.Q(enqueued_at=None) | models.Q(enqueued_at__lte=lost_before)
        return self.filter(idle, next_attempt_at__lte=now)

    def claim(
        self,
        *,
        now: datetime,
        limit: int = 1000,
        order: Sequence[Any] = ("next_attempt_at",),
    ) -> list[Any]:
        """Mark due rows as enqueued; return their primary keys, longest due first."""
        with transaction.atomic():
            rows = self.due(now).order_by(*order)
            # SKIP LOCKED: sweeps that run at once claim different rows.
            locked = rows.select_for_update(skip_locked=True, of=("self",))
            keys = list(locked.values_list("pk", flat=True)[:limit])
            self.model._default_manager.filter(pk__in=keys).update(enqueued_at=now)
        return keys

    def update_free(self, **columns: Any) -> None:
        """Update the rows that no other transaction has locked, without waiting.

        One that waits for many rows, in any order, may wait in a circle.
        """
        with transaction.atomic():
            free = self.select_for_update(skip_locked=True, of=("self",))
            keys = list(free.values_list("pk", flat=True))
            self.model._default_manager.filter(pk__in=keys).update(**columns)


class WorkItem(models.Model):
    """Row that a task works on until it succeeds."""

    #: The name of the Celery task that takes the row's primary key.
    task_name: ClassVar[str]

    next_attempt_at = models.DateTimeField(default=timezone.now)
    enqueued_at = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)
    last_error = models.TextField(blank=True, default="")
    last_error_code = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        abstract = True

    def enqueue(self, *, countdown: int | None = None) -> None:
        """Make the row due now, and send its message when the transaction commits.

        The task runs after `countdown` seconds, by default those of `get_countdown`.
        """
        self.next_attempt_at = self.enqueued_at = at = timezone.now()
        rows = type(self)._default_manager.filter(pk=self.pk)
        rows.update(next_attempt_at=at, enqueued_at=at)
        self.send_on_commit(countdown=countdown)

    def send_on_commit(self, *, countdown: int | None = None) -> None:
        """Send the message of a row that was saved as enqueued, as `enqueue` does."""
        seconds = self.get_countdown() if countdown is None else countdown
        at = self.enqueued_at

        # Not a partial: Django logs a failure with the callback's __qualname__.
        def send() -> None:
            try:
                self._send(seconds)
            except Exception:
                # Neither the sweep nor the next change has to wait for this message.
                rows = type(self)._default_manager.filter(pk=self.pk)
                rows.filter(enqueued_at=at).update(enqueued_at=None)
                raise

        transaction.on_commit(send, robust=True)

    def _send(self, seconds: int) -> None:
        # As JSON has it: a sweep sends text for a UUID, too.
        key = str(self.pk) if isinstance(self.pk, UUID) else self.pk
        # By name, since models do not import tasks.
        current_app.tasks[self.task_name].apply_async((key,), {}, countdown=seconds)

    def get_backoff(self, failures: int) -> timedelta:
        """Return the delay after the n-th failure in a row."""
        return backoff(failures)

    def get_countdown(self) -> int:
        """Return the seconds to wait before the task runs."""
        return 0

    def is_enqueued(self, now: datetime) -> bool:
        """Return whether a message about this row may still be on its way."""
        lost_before = now - timedelta(seconds=settings.ENQUEUED_TIMEOUT)
        return self.enqueued_at is not None and self.enqueued_at > lost_before


def failure_columns(
    error: Exception,
    *,
    failures: int,
    now: datetime,
    delay: timedelta | None = None,
) -> dict[str, object]:
    """Return the columns that record a failure and the time of the next attempt.

    It comes after `delay`, by default that of `backoff`.
    """
    retry_after = timedelta(seconds=getattr(error, "retry_after", 0))
    return {
        **error_columns(error),
        "failures": failures + 1,
        "next_attempt_at": now + max(delay or backoff(failures + 1), retry_after),
        "enqueued_at": None,
    }


def error_columns(error: Exception) -> dict[str, object]:
    """Return the columns that show an error, without secrets."""
    code = error.code if isinstance(error, CaravelError) else type(error).__name__
    return {
        "last_error": redact_start(str(error), 2_000),
        "last_error_code": code[:64],
    }


NO_FAILURE: dict[str, object] = {
    "failures": 0,
    "last_error": "",
    "last_error_code": "",
}
