"""Lease on a tenant's sync: one worker at a time, on any host."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from billing.exceptions import LeaseLost
from billing.models import SubscriptionSync
from caravel.core.db.work_items import NO_FAILURE, failure_columns

DURATION = timedelta(seconds=60)
#: More than one call can take: its timeout, connecting included, is 22 seconds.
MIN_REMAINING = timedelta(seconds=25)


class Lease:
    """The right to change one tenant's subscription, for a minute, renewable."""

    def __init__(self, tenant_id: str, token: uuid.UUID, until: datetime) -> None:
        self.tenant_id = tenant_id
        self._token = token
        self._until = until
        self._version = 0

    @classmethod
    def acquire(cls, tenant_id: str) -> Lease | None:
        """Take the lease of a stale tenant whose sync is due.

        Returns None otherwise, and if another worker holds the lease. Clears
        `enqueued_at`: this sync serves all messages sent so far.
        """
        now = timezone.now()
        lease = cls(tenant_id, uuid.uuid4(), now + DURATION)
        free = Q(lease_until=None) | Q(lease_until__lte=now)
        due = Q(failures=0) | Q(next_attempt_at__lte=now)
        stale = SubscriptionSync.objects.stale().filter(tenant_id=tenant_id)
        taken = stale.filter(free, due).update(
            lease_token=lease._token, lease_until=lease._until, enqueued_at=None
        )
        if not taken:
            # This message is consumed: the next change has to send another.
            stale.filter(~due).update(enqueued_at=None)
            return None
        lease._version = lease._row().values_list("version", flat=True).get()
        return lease

    def renew(self) -> None:
        """Check that the lease is held, and extend it if too short for one call.

        The row decides who holds it, since the clocks of hosts may differ. Raises
        LeaseLost.
        """
        now = timezone.now()
        if self._until - now >= MIN_REMAINING:
            held = self._row().exists()
        else:
            held = bool(self._row().update(lease_until=now + DURATION))
            self._until = now + DURATION
        if not held:
            raise LeaseLost("Another worker has taken over the sync of this tenant.")

    def release(self) -> bool:
        """Release the lease after a sync; returns whether the tenant is in sync.

        It stays stale if its relays changed in the meantime, or the lease was lost.
        """
        with transaction.atomic():
            sync = self._row().select_for_update().first()
            if sync is None:
                return False
            now = timezone.now()
            sync.synced_version, sync.synced_at = self._version, now
            sync.lease_token = sync.lease_until = None
            sync.stale_since = now if sync.is_stale else None
            sync.enqueued_at = None
            if not sync.is_stale:
                sync.quoted = {}
            for column, value in NO_FAILURE.items():
                setattr(sync, column, value)
            sync.save()
            if sync.is_stale:
                # A message sent meanwhile found the lease taken: send another.
                sync.enqueue()
        return not sync.is_stale

    def release_failed(self, error: Exception) -> None:
        """Release the lease and record the error; the sweep retries later.

        If the relays changed in the meantime it is retried at once: the change may be
        the repair.
        """
        with transaction.atomic():
            sync = self._row().select_for_update().first()
            if sync is None:
                return
            now = timezone.now()
            columns = failure_columns(error, failures=sync.failures, now=now)
            for column, value in columns.items():
                setattr(sync, column, value)
            sync.lease_token = sync.lease_until = None
            sync.save()
            if sync.version != self._version:
                sync.enqueue()

    def _row(self) -> models.QuerySet[SubscriptionSync]:
        return SubscriptionSync.objects.filter(
            tenant_id=self.tenant_id, lease_token=self._token
        )
