"""Leases on rows of work: one worker at a time, on any host.

A row is *stale* while its version, which every change increments, differs from the one
that was last synced.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone

from caravel.core.db.updates import update_returning
from caravel.core.db.work_items import (
    NO_FAILURE,
    WorkItem,
    WorkQuerySet,
    failure_columns,
)
from caravel.core.exceptions import LeaseLost

DURATION = timedelta(seconds=60)
_RELEASED: dict[str, object] = {"lease_token": None, "lease_until": None}
#: More than one call can take: its timeout, connecting included, is 22 seconds.
MIN_REMAINING = timedelta(seconds=25)


class LeasedQuerySet(WorkQuerySet):
    def stale(self) -> Self:
        """Return rows that changed since they were last synced."""
        return self.exclude(version=F("synced_version"))


class LeasedItem(WorkItem):
    """Row that one worker at a time syncs with a server.

    Every change increments `version` in its own transaction. A sync holds the lease,
    and sets `synced_version` to the version that it started from.
    """

    version = models.PositiveBigIntegerField(default=0)
    synced_version = models.PositiveBigIntegerField(default=0)
    lease_token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def is_stale(self) -> bool:
        return self.version != self.synced_version

    @classmethod
    def synced_columns(cls, now: datetime, *, is_stale: bool) -> dict[str, object]:
        """Return further columns to set at the end of a sync."""
        return {}


class Lease:
    """The right to sync one row, for a minute, renewable."""

    def __init__(self, model: type[LeasedItem], pk: Any) -> None:
        self.pk = pk
        self._model = model
        self._token = uuid.uuid4()
        self._until = timezone.now() + DURATION
        #: The version that this sync makes the server match.
        self.version = 0

    @classmethod
    def acquire(cls, model: type[LeasedItem], pk: Any) -> Self | None:
        """Take the lease of a stale row whose sync is due.

        Returns None otherwise, and if another worker holds the lease. Clears
        `enqueued_at`: this sync serves all messages sent so far.
        """
        lease = cls(model, pk)
        now = timezone.now()
        free = Q(lease_until=None) | Q(lease_until__lte=now)
        due = Q(failures=0) | Q(next_attempt_at__lte=now)
        rows = model._default_manager.filter(pk=pk)
        stale = rows.exclude(version=F("synced_version"))
        while True:
            if lease._take(stale.filter(free, due)):
                return lease
            # This message is consumed: the next change, or the end of the sync that
            # holds the lease, has to send another. If it ended just now, try again.
            is_consumed = stale.filter(~(free & due)).update(enqueued_at=None)
            if is_consumed or not stale.exists():
                return None

    def _take(self, rows: models.QuerySet[LeasedItem]) -> bool:
        versions = update_returning(
            rows,
            "version",
            lease_token=self._token,
            lease_until=self._until,
            enqueued_at=None,
        )
        self.version = versions[0] if versions else 0
        return bool(versions)

    def renew(self) -> None:
        """Check that the lease is held, and extend it if too short for one call.

        The row decides who holds it, since the clocks of hosts may differ. Raises
        LeaseLost.
        """
        now = timezone.now()
        if self._until - now >= MIN_REMAINING:
            held = self.row().exists()
        else:
            held = bool(self.row().update(lease_until=now + DURATION))
            self._until = now + DURATION
        if not held:
            raise LeaseLost("Another worker has taken over this sync.")

    def release(self) -> bool:
        """Release the lease after a sync; returns whether the row is in sync.

        It stays stale if it changed in the meantime, or the lease was lost.
        """
        now = timezone.now()
        columns = {
            "synced_version": self.version,
            **self._model.synced_columns(now, is_stale=False),
            **_RELEASED,
            **NO_FAILURE,
        }
        unchanged = self.row().filter(version=self.version)
        if unchanged.update(enqueued_at=None, **columns):
            return True
        with transaction.atomic():
            item = self.row().select_for_update().first()
            if item is not None:
                self._release_stale(item, now)
        return False

    def _release_stale(self, item: LeasedItem, now: datetime) -> None:
        item.synced_version = self.version
        columns = self._model.synced_columns(now, is_stale=True)
        self._release(item, {**columns, **NO_FAILURE})
        if item.enqueued_at is None:
            # The change's message has found the lease taken. Its delay is over.
            item.enqueue(countdown=0)

    def release_failed(self, error: Exception) -> None:
        """Release the lease and record the error; the sweep retries later.

        If the row changed in the meantime it is retried at once: the change may be the
        repair.
        """
        with transaction.atomic():
            item = self.row().select_for_update().first()
            if item is None:
                return
            columns = failure_columns(
                error,
                failures=item.failures,
                now=timezone.now(),
                delay=item.get_backoff(item.failures + 1),
            )
            self._release(item, columns)
            if item.version != self.version:
                item.enqueue()

    def release_waiting(self, seconds: int) -> None:
        """Release the lease of a row that stays stale, and look again soon."""
        with transaction.atomic():
            item = self.row().select_for_update().first()
            if item is not None:
                self._release(item, {})
                item.enqueue(countdown=seconds)

    def row(self) -> models.QuerySet[LeasedItem]:
        """Return the row while this lease is held, else nothing."""
        return self._model._default_manager.filter(pk=self.pk, lease_token=self._token)

    def _release(self, item: LeasedItem, columns: Mapping[str, object]) -> None:
        for column, value in columns.items():
            setattr(item, column, value)
        item.lease_token = item.lease_until = None
        item.save()
