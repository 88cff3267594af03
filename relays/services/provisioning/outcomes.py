"""Outcome of a sync: recorded on the relay, in words for its tenant, and logged."""

from datetime import datetime
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from caravel.core.alerts import alert_support
from caravel.core.db.leases import Lease
from caravel.core.exceptions import CaravelError
from relays import exceptions
from relays.models import Relay, RelaySync
from relays.services.activities import record_relay_activity
from relays.services.locks import lock_tenant
from relays.services.provisioning.configuration import digest, public_host
from relays.services.provisioning.proofs import Shown
from relays.services.provisioning.queue import AWAY
from relays.services.provisioning.state import SyncState, load
from tenants.models import Activity

logger = structlog.get_logger(__name__)

#: Failures in a row after which the server itself is hardly the reason.
_STUCK = 6
#: Errors that may be over for all when one is: of a server that was away, or of names
#: that move in a row.
_PASSING = (*AWAY, exceptions.HostTaken.code)
_TEXTS = {
    exceptions.HostTaken.code: "The name of the relay is not free at our server yet.",
    exceptions.RelayMisconfigured.code: "Our server cannot take this configuration.",
}
_TEXT = "Our server has not taken the present configuration yet."


def complete(state: SyncState, document: Shown) -> bool:
    """Record a proof; returns whether the relay is in sync.

    It is not if it changed in the meantime. Raises LeaseLost.
    """
    with transaction.atomic():
        relay, sync = _lock(state.lease)
        state.lease.renew()
        # The digest again: adopted words have changed the configuration.
        known = digest(load(sync))
        RelaySync.objects.filter(pk=sync.pk).update(unproven={}, digest=known)
        is_synced = state.lease.release()
        columns = _set_proof(relay, state, document, timezone.now())
        is_news = (
            state.is_changed or sync.last_error_code or "first_served_at" in columns
        )
        relay.synced, relay.sync_error = is_synced, ""
        # Saved, not updated: billing reacts to the first proof.
        relay.save(update_fields=["synced", "sync_error", *columns])
        if is_news:
            record_relay_activity(relay, Activity.Type.COMPLETE_RELAY_SYNC)
    if sync.last_error_code in _PASSING:
        _retry_others(state.relay.pk)
    return is_synced


def fail(lease: Lease, error: CaravelError) -> None:
    """Record a failure. An activity is logged when its code changes."""
    logger.warning("relay_sync_failed", code=error.code, error=error.message)
    with transaction.atomic():
        relay, sync = _lock(lease)
        is_held = lease.row().exists()
        lease.release_failed(error)
        if not is_held:
            return
        relay.synced = False
        relay.sync_error = _TEXTS.get(error.code, _TEXT)
        relay.save(update_fields=["synced", "sync_error"])
        if sync.last_error_code != error.code:
            record_relay_activity(relay, Activity.Type.FAIL_RELAY_SYNC)
        if sync.failures + 1 >= _STUCK:
            message = f"A relay cannot be synced with zooid: {error}"
            alert_support("relay_sync_stuck", message, relay=str(relay.pk))


def record_first_proof(*, relay_id: UUID, seen_at: datetime) -> None:
    """Record that a relay was seen running for the first time, in sync or not.

    Its owner may keep it from showing the present words, but not from being billed.
    """
    with transaction.atomic():
        lock_tenant(Relay.objects.values_list("tenant", flat=True).get(pk=relay_id))
        unseen = Relay.objects.existing().filter(first_served_at=None, pk=relay_id)
        relay = unseen.select_for_update(no_key=True).first()
        if relay is not None:
            relay.first_served_at = relay.served_at = seen_at
            # Saved, not updated: billing reacts to it.
            relay.save(update_fields=["first_served_at", "served_at"])


def _lock(lease: Lease) -> tuple[Relay, RelaySync]:
    """Lock the tenant, the relay and its sync, in this order."""
    tenant_id = Relay.objects.values_list("tenant", flat=True).get(pk=lease.pk)
    lock_tenant(tenant_id)
    relay = Relay.objects.select_for_update(no_key=True).get(pk=lease.pk)
    return relay, RelaySync.objects.select_for_update().get(pk=lease.pk)


def _set_proof(
    relay: Relay, state: SyncState, document: Shown, now: datetime
) -> list[str]:
    """Set the times of proofs; returns the columns that were set."""
    is_public = state.host == public_host(state.relay)
    if not is_public or (state.wanted is None and not state.is_changed):
        return []  # Nobody has looked at its public name.
    if document is None or not state.identity.has(document):
        relay.dark_at = now
        return ["dark_at"]
    relay.served_at = now
    if relay.first_served_at:
        return ["served_at"]
    relay.first_served_at = now
    return ["served_at", "first_served_at"]


def _retry_others(relay_id: UUID) -> None:
    """Make the syncs due that waited for the same."""
    now = timezone.now()
    waiting = RelaySync.objects.stale().filter(
        Q(last_error_code__in=_PASSING), next_attempt_at__gt=now
    )
    with transaction.atomic():
        # Those that are locked are being worked on.
        rows = waiting.order_by("pk").select_for_update(skip_locked=True)
        keys = list(rows.exclude(pk=relay_id).values_list("pk", flat=True))
        RelaySync.objects.filter(pk__in=keys).update(next_attempt_at=now)
