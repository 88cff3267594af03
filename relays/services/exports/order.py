"""Orders of exports, and their cancellation."""

from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from relays.exceptions import ExportFailed, ExportNotPossible, ExportQuota
from relays.models import Relay, RelayExport
from relays.services.exports.endings import give_up
from relays.services.locks import lock_relay
from tenants.models import Activity
from tenants.services.activities import record_activity

#: Exports of one relay within a day: each reads all its events.
MAX_PER_DAY = 5
_DAY = timedelta(days=1)


def order_export(*, relay_id: UUID) -> RelayExport:
    """Return the unfinished export of a relay, or begin one.

    Raises UnknownRelay, ExportNotPossible or ExportQuota.
    """
    with transaction.atomic():
        relay = lock_relay(relay_id)
        export: RelayExport | None = relay.exports.unfinished().first()
        if export is None:
            _require_events(relay)
            _require_quota(relay)
            export = RelayExport.objects.create(relay=relay)
            _record(relay)
            export.enqueue()
    return export


def cancel_export(*, export_id: int) -> None:
    """End an unfinished export for support; its relay goes dark again."""
    give_up(export_id, ExportFailed("Support has ended this export."))


def _require_events(relay: Relay) -> None:
    if relay.first_served_at is None:
        raise ExportNotPossible("This relay has never run: it has no events.")


def _require_quota(relay: Relay) -> None:
    now = timezone.now()
    recent = relay.exports.filter(created_at__gt=now - _DAY).order_by("created_at")
    times = list(recent.values_list("created_at", flat=True))
    if len(times) >= MAX_PER_DAY:
        free_at = times[-MAX_PER_DAY] + _DAY
        raise ExportQuota(
            f"A relay can be exported {MAX_PER_DAY} times a day.",
            retry_after=(free_at - now).total_seconds(),
        )


def _record(relay: Relay) -> None:
    record_activity(
        tenant_id=relay.tenant_id,
        type=Activity.Type.EXPORT_RELAY,
        subject_type="relay",
        subject_id=str(relay.pk),
        snapshot={"plan": relay.plan_id, "status": relay.status},
    )
