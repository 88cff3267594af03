"""Queue of relays that zooid may not serve as configured."""

from collections.abc import Iterable
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from relays.models import Relay, RelaySync


def mark_stale(*, relay_id: UUID) -> None:
    """Record, in the caller's transaction, that a relay needs a sync, and enqueue it.

    A message that is on its way covers later changes too.
    """
    with transaction.atomic(savepoint=False):
        # Lock order: the relay before its sync, as everywhere.
        Relay.objects.filter(pk=relay_id, synced=True).update(synced=False)
        rows = RelaySync.objects
        rows.bulk_create([RelaySync(relay_id=relay_id)], ignore_conflicts=True)
        sync: RelaySync = rows.select_for_update().get(pk=relay_id)
        now = timezone.now()
        sync.version += 1
        sync.next_attempt_at = now
        sync.save(update_fields=["version", "next_attempt_at"])
        if not sync.is_enqueued(now):
            sync.enqueue()


def mark_all_stale(relay_ids: Iterable[UUID]) -> None:
    """Make a sync due for each relay, in the order of their keys."""
    with transaction.atomic():
        # Lock order: rows by primary key.
        for relay_id in sorted(relay_ids):
            mark_stale(relay_id=relay_id)


def sync_again(relay_ids: Iterable[UUID]) -> None:
    """Make syncs due that may also send again what a repair has not changed.

    For an operator, who has seen to zooid meanwhile.
    """
    keys = [*relay_ids]
    with transaction.atomic():
        mark_all_stale(keys)
        repaired = RelaySync.objects.filter(unproven__has_key="is_repaired")
        for sync in repaired.filter(pk__in=keys):
            del sync.unproven["is_repaired"]
            sync.save(update_fields=["unproven"])
