"""One sync per tenant at a time, on any host."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from billing.exceptions import LeaseLost
from billing.models import SubscriptionSync
from caravel.core.db.work_items import NO_FAILURE, failure_columns

LENGTH = timedelta(seconds=60)
#: More than one call can take: its time-out, connecting included, is 22 seconds.
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
        """Take the lease of a stale tenant whose time has come, else return None.

        None as well while another worker holds it. Messages sent up to now are
        answered by this sync; later ones count anew.
        """
        now = timezone.now()
        lease = cls(tenant_id, uuid.uuid4(), now + LENGTH)
        free = Q(lease_until=None) | Q(lease_until__lte=now)
        due = Q(failures=0) | Q(next_attempt_at__lte=now)
        stale = SubscriptionSync.objects.stale().filter(tenant_id=tenant_id)
        taken = stale.filter(free, due).update(
            lease_token=lease._token, lease_until=lease._until, enqueued_at=None
        )
        if not taken:
            # This message is used up: whoever is next must not rely on it.
            stale.filter(~due).update(enqueued_at=None)
            return None
        lease._version = lease._row().values_list("version", flat=True).get()
        return lease

    def ensure(self) -> None:
        """Make sure that it is ours and enough is left for one call. Raises LeaseLost.

        The row decides, whatever this host's clock says.
        """
        now = timezone.now()
        if self._until - now >= MIN_REMAINING:
            held = self._row().exists()
        else:
            held = bool(self._row().update(lease_until=now + LENGTH))
            self._until = now + LENGTH
        if not held:
            raise LeaseLost("Another worker has taken this tenant over.")

    def finish(self) -> bool:
        """Give the lease back; returns whether the tenant is in step now.

        It stays stale when its relays changed under way, or the lease was lost.
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
            for column, value in NO_FAILURE.items():
                setattr(sync, column, value)
            sync.save()
            if sync.is_stale:
                # Messages that found the lease taken did nothing: send another.
                sync.enqueue()
        return not sync.is_stale

    def fail(self, error: Exception) -> None:
        """Give the lease back with the error; the sweep tries again after a while.

        A change under way may be the repair: it is tried at once.
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
