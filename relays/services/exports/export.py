"""Export of one relay: each turn reads some pages, and goes on where the last ended.

A page is stored together with the position after it, if nobody has moved that since:
so a worker may be killed at any time, and two never store the same events.
"""

import gzip
import secrets
from dataclasses import dataclass, field
from functools import partial
from threading import BoundedSemaphore
from time import monotonic

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from caravel.core.db.encrypted_text import Secret
from caravel.core.db.work_items import NO_FAILURE, failure_columns
from caravel.core.exceptions import CaravelError
from relays.clients.events import open_reader
from relays.clients.zooid import Zooid
from relays.exceptions import ExportFailed, ExportTooLarge
from relays.models import Relay, RelayExport, RelayExportPart
from relays.services.exports.endings import (
    complete,
    give_up,
    lock_unfinished,
    max_bytes,
)
from relays.services.exports.paging import Batch, Position, read_batch
from relays.services.provisioning.configuration import public_host
from relays.services.provisioning.queue import mark_stale

State = RelayExport.State
#: Seconds after which an export lets others have its thread.
TURN = 60.0
#: Failures in a row after which it is given up: about a day.
MAX_FAILURES = 30
#: Failures while the relay is being started, which are followed by a quick look.
_QUICK_LOOKS = 12
#: Exports at once in this process, which makes payments, too. Each may hold a hundred
#: MiB, and keeps a thread for a minute.
AT_ONCE = 4
_slots = BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True)
class _Source:
    relay: Relay
    host: str
    secret: Secret = field(repr=False)
    position: Position


def export_relay(*, export_id: int) -> None:
    """Export the next pages of a relay's events; it waits while enough others run."""
    if not _slots.acquire(blocking=False):
        _wait(export_id)
        return
    try:
        _take_turn(export_id)
    finally:
        _slots.release()
    _start_next()


def _take_turn(export_id: int) -> None:
    try:
        source = _begin_turn(export_id)
        if source is not None:
            _export(export_id, source)
    except ExportFailed as exc:
        give_up(export_id, exc)
    except CaravelError as exc:
        _record_failure(export_id, exc)


def _begin_turn(export_id: int) -> _Source | None:
    """Return where to read; None if the export has ended. Raises ExportFailed."""
    with transaction.atomic():
        export = lock_unfinished(export_id)
        if export is None:
            return None
        relay = export.relay
        if relay.deleted_at:
            raise ExportFailed("The relay was deleted before its export was complete.")
        host = public_host(relay)
        if relay.status != Relay.Status.ACTIVE:
            host = export.window_host or _open_window(export)
        return _Source(relay, host, relay.secret, _position(export))


def _open_window(export: RelayExport) -> str:
    """Have a relay that is off served under a name that nobody else knows."""
    host = f"x{secrets.token_hex(16)}.{settings.RELAY_DOMAIN}".lower()
    RelayExport.objects.filter(pk=export.pk).update(window_host=host)
    mark_stale(relay_id=export.relay_id)
    return host


def _export(export_id: int, source: _Source) -> None:
    members = partial(Zooid().list_members, source.relay.pk)
    position, end_at = source.position, monotonic() + TURN
    with open_reader(source.host, source.secret.reveal()) as reader:
        while monotonic() < end_at:
            batch = read_batch(reader.fetch_page, position, members)
            if not _store(export_id, position, batch) or batch is None:
                return
            position = batch.position
    _wait(export_id)


def _store(export_id: int, position: Position, batch: Batch | None) -> bool:
    """Store what follows a position, None for the end; return False if it has moved.

    Raises ExportTooLarge.
    """
    data = _compress(batch) if batch else b""
    with transaction.atomic():
        export = lock_unfinished(export_id)
        if export is None or _position(export) != position:
            return False
        if batch is None:
            complete(export)
            return True
        if export.size_bytes + len(data) > max_bytes():
            raise ExportTooLarge(
                f"The export has more than {settings.RELAY_EXPORT_MAX_MB} MiB."
                " Please ask support for a copy."
            )
        if batch.events:
            number = export.parts.count()
            RelayExportPart.objects.create(export=export, number=number, data=data)
        RelayExport.objects.filter(pk=export.pk).update(
            state=State.RUNNING,
            cursor=batch.position.until,
            cursor_ids=sorted(batch.position.ids),
            events=export.events + len(batch.events),
            size_bytes=export.size_bytes + len(data),
            gaps=export.gaps + (not batch.is_complete),
            # Still at work: no sweep sends another message.
            enqueued_at=timezone.now(),
            next_attempt_at=timezone.now(),
            **NO_FAILURE,
        )
    return True


def _compress(batch: Batch) -> bytes:
    """Return events as lines in a gzip member, b"" for none."""
    lines = b"".join(event.line + b"\n" for event in batch.events)
    return gzip.compress(lines, mtime=0) if lines else b""


def _position(export: RelayExport) -> Position:
    return Position(export.cursor, frozenset(export.cursor_ids))


def _wait(export_id: int) -> None:
    """Make an export due without a message, behind those that have waited longer."""
    exports = RelayExport.objects.unfinished().filter(pk=export_id)
    exports.update(enqueued_at=None)


def _start_next() -> None:
    """Send the message of the export that has waited longest, if one waits."""
    with transaction.atomic():
        for key in RelayExport.objects.unfinished().claim(now=timezone.now(), limit=1):
            RelayExport.objects.get(pk=key).enqueue()


def _record_failure(export_id: int, error: CaravelError) -> None:
    """Record a failure and the time of the next try, or give up."""
    with transaction.atomic():
        export = lock_unfinished(export_id)
        if export is None:
            return
        columns = failure_columns(error, failures=export.failures, now=timezone.now())
        RelayExport.objects.filter(pk=export.pk).update(**columns)
        export.failures += 1
        if export.state == State.WAITING and export.failures <= _QUICK_LOOKS:
            export.enqueue()
    if export.failures >= MAX_FAILURES:
        give_up(export_id, error)
