"""Reconciliation: NIP-11 probes of all relays.

A probe never sends anything to zooid. What it finds different is made stale, and the
sync of that relay looks again before it writes.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from caravel.core.alerts import alert_support
from caravel.core.db.encrypted_text import Undecryptable
from caravel.core.db.transactions import release_connection
from relays.clients.nip11 import Probe, RelayDocument, fetch_documents
from relays.exceptions import RelayMisconfigured, RelayUnreachable
from relays.models import Relay, RelaySync
from relays.services.provisioning import adoption
from relays.services.provisioning.configuration import desired, digest, public_host
from relays.services.provisioning.outcomes import record_first_proof
from relays.services.provisioning.proofs import Identity, shows
from relays.services.provisioning.queue import mark_all_stale, mark_stale
from relays.services.provisioning.state import with_configuration

logger = structlog.get_logger(__name__)

#: Relays that are probed by one task, at once.
BATCH = 500
#: Failed probes in a row: support is alerted after an hour, and then each day.
_AN_HOUR, _A_DAY = 4, 96
#: Relays whose probes are started in a minute.
_MAX_DUE = 10_000


def claim_due(*, now: datetime) -> list[list[UUID]]:
    """Return batches of relays that have not been probed for a while."""
    with transaction.atomic():
        due = RelaySync.objects.probe_due(now).order_by(
            F("probed_at").asc(nulls_first=True)
        )
        # SKIP LOCKED: sweeps that run at once claim different rows.
        locked = due.select_for_update(skip_locked=True, of=("self",))
        keys = list(locked.values_list("pk", flat=True)[:_MAX_DUE])
        RelaySync.objects.filter(pk__in=keys).update(probed_at=now)
    return [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]


def probe_relays(*, relay_ids: Sequence[UUID]) -> None:
    """Probe relays at once; make a sync due for those that differ."""
    syncs = RelaySync.objects.filter(pk__in=relay_ids).exclude(host="")
    hosts = dict(syncs.values_list("pk", "host"))
    read_at = timezone.now()
    documents = fetch_documents([*hosts.values()])
    probes = {pk: documents[host] for pk, host in hosts.items()}
    relays = _relays(hosts, read_at)
    _record_proofs(relays, probes)
    mark_all_stale(pk for pk, relay in relays.items() if _differs(relay, probes[pk]))
    for pk, relay in relays.items():
        document = probes[pk]
        if isinstance(document, RelayDocument) and not relay.sync.is_stale:
            _adopt(relay, document, read_at)
            # Batches run at once, and payments wait for the same few connections.
            release_connection()


def _relays(hosts: Mapping[UUID, str], read_at: datetime) -> dict[UUID, Relay]:
    """Return the relays that are still where they were probed."""
    rows = with_configuration(Relay.objects.filter(pk__in=hosts)).select_related("sync")
    return {
        relay.pk: relay
        for relay in rows
        if relay.sync.host == hosts[relay.pk]
        and (relay.sync.acknowledged_at or read_at) <= read_at
        and _is_readable(relay)
    }


def _is_readable(relay: Relay) -> bool:
    """Return whether the relay can be recognized; one that cannot fails alone."""
    try:
        relay.secret.reveal()
        relay.sync.acknowledged.reveal()
    except Undecryptable as exc:
        alert_support("relay_unreadable", exc.message, relay=str(relay.pk))
        return False
    return True


def _record_proofs(relays: Mapping[UUID, Relay], probes: Mapping[UUID, Probe]) -> None:
    """Record when each relay was last seen, and which could not be reached."""
    served: list[UUID] = []
    dark: list[UUID] = []
    for pk, relay in relays.items():
        probe = probes[pk]
        # A private name, during an export, proves nothing about the public one.
        if relay.sync.host != public_host(relay) or isinstance(probe, RelayUnreachable):
            continue
        is_own = probe is not None and Identity.of(relay).has(probe)
        (served if is_own else dark).append(pk)
    now = timezone.now()
    _update_unlocked(served, served_at=now)
    _update_unlocked(dark, dark_at=now)
    for pk in served:
        if relays[pk].first_served_at is None:
            record_first_proof(relay_id=pk, seen_at=now)
            release_connection()
    _count_failures(relays, probes)


def _count_failures(relays: Mapping[UUID, Relay], probes: Mapping[UUID, Probe]) -> None:
    """Count failed probes in a row; support learns of relays that nobody reaches."""
    errors = {
        pk: str(probes[pk]) for pk in relays if isinstance(probes[pk], RelayUnreachable)
    }
    with transaction.atomic():
        rows = RelaySync.objects.filter(pk__in=relays).order_by("pk")
        # Those that are locked are being synced: that reports its own failures.
        counted = rows.select_for_update(skip_locked=True)
        failures = dict(counted.values_list("pk", "probe_failures"))
        reached = [pk for pk, count in failures.items() if count and pk not in errors]
        unreached = [pk for pk in failures if pk in errors]
        RelaySync.objects.filter(pk__in=reached).update(probe_failures=0)
        RelaySync.objects.filter(pk__in=unreached).update(
            probe_failures=F("probe_failures") + 1
        )
    if errors:
        logger.warning("relays_unreached", relays=len(errors), of=len(relays))
    _alert([pk for pk in unreached if failures[pk] % _A_DAY == _AN_HOUR], errors)


def _alert(relay_ids: Sequence[UUID], errors: Mapping[UUID, str]) -> None:
    if relay_ids:
        first = relay_ids[0]
        alert_support(
            "relays_unreachable",
            f"{len(relay_ids)} relays have not been reached for an hour or more, "
            f"such as this one: {errors[first]}",
            relay=str(first),
        )


def _update_unlocked(relay_ids: Sequence[UUID], **columns: datetime) -> None:
    """Update relays except those being changed, which are seen again soon."""
    with transaction.atomic():
        rows = Relay.objects.filter(pk__in=relay_ids).order_by("pk")
        free = rows.select_for_update(skip_locked=True, no_key=True, of=("self",))
        keys = list(free.values_list("pk", flat=True))
        Relay.objects.filter(pk__in=keys).update(**columns)


def _differs(relay: Relay, probe: Probe) -> bool:
    """Return whether a relay that is in sync is not, or its sync has to report why."""
    if relay.sync.is_stale:
        return False
    try:
        wanted = desired(relay)
    except RelayMisconfigured:
        return True
    # Settings, such as those of LiveKit, have no receiver that makes relays stale.
    if digest(wanted) != relay.sync.digest:
        return True
    if isinstance(probe, RelayUnreachable):
        return False
    return not shows(probe, wanted, identity=Identity.of(relay))


def _adopt(relay: Relay, document: RelayDocument, read_at: datetime) -> None:
    """Adopt the owner's edits; a sync looks if something is to be sent now."""
    if not adoption.is_news(document, relay.sync):
        return
    is_own = Identity.of(relay).has(document)
    if is_own and adoption.adopt(relay_id=relay.pk, document=document, read_at=read_at):
        mark_stale(relay_id=relay.pk)
