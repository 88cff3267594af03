"""Queue of relays that zooid may not serve as configured."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from relays import exceptions
from relays.models import Relay, RelaySync

#: Codes of a server that is away: when it is back, all wait for nothing.
AWAY = tuple(
    error.code
    for error in (
        exceptions.ZooidUnavailable,
        exceptions.ZooidOutcomeUnknown,
        exceptions.RelayUnreachable,
    )
)


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


def try_server_again(*, now: datetime) -> UUID | None:
    """Make one of the syncs due that wait for the server; its success brings the rest.

    Call it once a minute: so an outage costs one request then, and its end is noticed
    at once. Returns the relay, None if none waits.
    """
    with transaction.atomic():
        waiting = RelaySync.objects.stale().filter(
            last_error_code__in=AWAY, next_attempt_at__gt=now
        )
        # That with the latest retry: each failure moves another one there.
        rows = waiting.order_by("-next_attempt_at").select_for_update(skip_locked=True)
        sync: RelaySync | None = rows.first()
        if sync is None:
            return None
        RelaySync.objects.filter(pk=sync.pk).update(next_attempt_at=now)
    return sync.pk
