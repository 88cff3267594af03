"""Ends of exports: each closes the private name, and keeps the parts or deletes them.

Lock order: the relay, its export, its sync.
"""

import gzip
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from caravel.core.db.work_items import NO_FAILURE, error_columns
from caravel.core.exceptions import CaravelError
from relays.models import (
    Relay,
    RelayExport,
    RelayExportPart,
    RelayExportQuerySet,
)
from relays.services.provisioning.queue import mark_stale

State = RelayExport.State
#: Time for a download, as in the notice: it outlives the relay's deletion.
LIFETIME = timedelta(days=30)
#: Files that are deleted at one tick of beat.
_MAX_EXPIRED = 50


def lock_unfinished(export_id: int) -> RelayExport | None:
    """Lock an unfinished export and its relay; None if there is none any more."""
    relays = Relay.objects.filter(exports=export_id).select_related("plan")
    # Not the plan: the deletion of a large file would keep all exports waiting.
    relay = relays.select_for_update(no_key=True, of=("self",)).first()
    rows = RelayExport.objects.unfinished().select_for_update()
    export: RelayExport | None = rows.filter(pk=export_id).first()
    if export is None or relay is None:
        return None
    export.relay = relay
    return export


def complete(export: RelayExport) -> None:
    """Mark a locked export as done; only the newest one of a relay is kept."""
    if not export.events:
        # A file without any gzip member would be invalid.
        data = gzip.compress(b"", mtime=0)
        RelayExportPart.objects.create(export=export, number=0, data=data)
        export.size_bytes = len(data)
    _end(export, State.DONE, **NO_FAILURE)
    _expire(export.relay.exports.done().exclude(pk=export.pk))


def give_up(export_id: int, error: CaravelError) -> None:
    """Mark an export as failed, with its reason, and delete what it has read."""
    with transaction.atomic():
        export = lock_unfinished(export_id)
        if export is not None:
            export.parts.all().delete()
            export.size_bytes = 0
            _end(export, State.FAILED, **error_columns(error))


def expire_exports(*, now: datetime) -> None:
    """Delete the files of exports whose time is over, some at each tick.

    Each by itself: a file may have a gigabyte, and a task has five minutes.
    """
    expired = RelayExport.objects.expired(now).order_by("expires_at")
    for export_id in expired.values_list("pk", flat=True)[:_MAX_EXPIRED]:
        with transaction.atomic():
            _expire(RelayExport.objects.done().filter(pk=export_id))


def max_bytes() -> int:
    """Return the size from which on an export is given up."""
    return settings.RELAY_EXPORT_MAX_MB * 1024 * 1024


def _end(export: RelayExport, state: State, **columns: object) -> None:
    had_window, now = bool(export.window_host), timezone.now()
    RelayExport.objects.filter(pk=export.pk).update(
        state=state,
        window_host="",
        cursor_ids=[],
        size_bytes=export.size_bytes,
        finished_at=now,
        expires_at=now + LIFETIME if state == State.DONE else None,
        enqueued_at=None,
        **columns,
    )
    if had_window:
        mark_stale(relay_id=export.relay_id)


def _expire(exports: RelayExportQuerySet) -> None:
    ids = list(exports.values_list("pk", flat=True))
    RelayExportPart.objects.filter(export__in=ids).delete()
    RelayExport.objects.filter(pk__in=ids).update(state=State.EXPIRED)
