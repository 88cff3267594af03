"""Sync of one relay with zooid."""

import time
from enum import StrEnum
from uuid import UUID

import structlog
from django.utils import timezone

from caravel.core.db.leases import Lease
from caravel.core.db.transactions import release_connection
from caravel.core.exceptions import CaravelError, LeaseLost
from relays.clients.nip11 import fetch_document
from relays.clients.zooid import Zooid
from relays.exceptions import RelayIsAnother, RelayUnproven, RelayUnreachable
from relays.models import RelaySync
from relays.services.provisioning import adoption, outcomes
from relays.services.provisioning.configuration import difference
from relays.services.provisioning.hosts import ComeBack
from relays.services.provisioning.proofs import Shown, shows
from relays.services.provisioning.queue import mark_stale
from relays.services.provisioning.state import SyncState
from relays.services.provisioning.writes import send_difference, settle

logger = structlog.get_logger(__name__)

#: Seconds before each look at the relay after a write.
_LOOKS = (0.0, 0.2, 0.5, 1.0)
#: Seconds until the next looks if zooid may still be reloading.
_LOOK_AGAIN = 5
#: Seconds until the next look at a relay that shows something else, maybe for a moment.
_CONFIRM_AGAIN = 20
#: A write, and another if it proves not to have worked.
_MAX_ROUNDS = 2
pause = time.sleep


class SyncOutcome(StrEnum):
    IN_SYNC = "in sync"
    STALE = "changed during the sync; enqueued again"
    WAITING = "waiting for another relay or for zooid; enqueued again"
    NOT_DUE = "already in sync, held by another worker, or waiting after a failure"
    FAILED = "failed; the error is recorded and the sync will be retried"


class _Disproved(Exception):
    """The relay shows that zooid does not have what it has acknowledged."""

    def __init__(self, document: Shown) -> None:
        super().__init__()
        self.document = document


def sync_relay(*, relay_id: UUID) -> SyncOutcome:
    """Bring zooid's configuration of a relay up to date, and prove it by NIP-11.

    Once for any number of concurrent calls. An expected failure is recorded and retried
    by the sweep; an unexpected one is recorded and raised.
    """
    lease = Lease.acquire(RelaySync, relay_id)
    if lease is None:
        return SyncOutcome.NOT_DUE
    with structlog.contextvars.bound_contextvars(relay=str(relay_id)):
        return _sync_with(lease)


def _sync_with(lease: Lease) -> SyncOutcome:
    try:
        state = SyncState.read(lease)
        document = _reconcile(state)
        is_synced = outcomes.complete(state, document)
    except LeaseLost as exc:
        logger.warning("relay_sync_lease_lost", error=exc.message)
        # A write of this one may have overtaken those of the other worker.
        mark_stale(relay_id=lease.pk)
        return SyncOutcome.NOT_DUE
    except ComeBack as exc:
        lease.release_waiting(exc.seconds)
        return SyncOutcome.WAITING
    except CaravelError as exc:
        outcomes.fail(lease, exc)
        return SyncOutcome.FAILED
    except Exception as exc:
        lease.release_failed(exc)
        raise
    return SyncOutcome.IN_SYNC if is_synced else SyncOutcome.STALE


def _reconcile(state: SyncState) -> Shown:
    """Send what differs until the relay shows it; returns its document."""
    if state.wanted is None and state.known is None and state.sent is None:
        return None  # zooid has never had it.
    settle(state)
    _look_first(state)
    for _ in range(_MAX_ROUNDS):
        send_difference(state)
        try:
            document = _prove(state)
        except _Disproved as exc:
            _correct(state, exc.document)
            continue
        if not _adopt_words(state, document):
            return document
    raise RelayUnproven("The relay still shows another configuration.")


def _look_first(state: SyncState) -> None:
    """Adopt the owner's words before a write that could overwrite them.

    After it, the relay shows if the write or the owner came later. Raises
    RelayUnreachable, unless the relay has to go dark in any case.
    """
    wanted, known = state.wanted, state.known
    if wanted is None or known is None or known.get("inactive", True) or state.sent:
        return
    if not adoption.must_look_first(state.relay, wanted, known):
        return
    state.looked_at = timezone.now()
    try:
        document = fetch_document(known["host"])
    except RelayUnreachable:
        if not wanted["inactive"]:
            raise
        return
    if document is not None and state.identity.has(document):
        adoption.adopt(
            relay_id=state.relay.pk, document=document, read_at=state.looked_at
        )
        state.reload()


def _prove(state: SyncState) -> Shown:
    """Return the document that proves the acknowledged configuration.

    Raises ComeBack while zooid may be reloading, then _Disproved; or RelayUnreachable.
    """
    replaced = state.unproven.get("words", {})
    for seconds in _LOOKS:
        if seconds:
            release_connection()
            pause(seconds)
        state.looked_at = timezone.now()
        document = fetch_document(state.host)
        identity = state.identity
        if shows(document, state.wanted, identity=identity, replaced=replaced):
            return document
        if not state.is_reloading:
            raise _Disproved(document)
    raise ComeBack(_LOOK_AGAIN)


def _adopt_words(state: SyncState, document: Shown) -> bool:
    """Adopt the owner's edits; returns whether there is something to send now."""
    if document is None or state.wanted is None or state.wanted["inactive"]:
        return False
    if not adoption.adopt(
        relay_id=state.relay.pk, document=document, read_at=state.looked_at
    ):
        return False
    state.reload()
    return bool(difference(state.wanted, state.known or {}))


def _correct(state: SyncState, document: Shown) -> None:
    """Record what the relay shows, so that the difference is sent, once.

    Raises ComeBack until it has shown it for a while. Raises RelayIsAnother, or
    RelayUnproven if it was sent already: only what has to be off is sent again by the
    next retry.
    """
    wanted = state.wanted
    # zooid listens while it starts: what it has not loaded yet is a 404, too.
    if not state.is_disproved_for_long():
        raise ComeBack(_CONFIRM_AGAIN)
    if not Zooid().has_relay(state.relay.pk):
        if wanted is None:
            raise RelayUnproven("zooid has deleted the relay, but still serves it.")
        state.acknowledge(None)
        return
    if document is not None and wanted and not state.identity.has(document):
        raise RelayIsAnother(
            "zooid serves this relay with another secret key: somebody has created it. "
            "Delete its configuration there to have it created again."
        )
    if state.unproven.get("is_repaired"):
        # By edits all the time, its owner could have zooid write the old file again:
        # what has to be off is switched off at each retry, where no reload does harm.
        state.record_repair(wanted is not None and not wanted["inactive"])
        raise RelayUnproven("zooid has acknowledged a change twice without effect.")
    state.distrust(document)
    state.record_repair(True)
