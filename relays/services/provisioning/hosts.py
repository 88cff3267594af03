"""Names that move between relays: the one that leaves goes first.

zooid accepts a host only if no other relay has it. Two relays that swap names would
wait for each other, so one of them takes a private name in between.
"""

import secrets
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from caravel.core.exceptions import CaravelError
from relays.exceptions import HostTaken
from relays.models import Relay, RelaySync
from relays.services.provisioning.configuration import desired
from relays.services.provisioning.queue import mark_stale
from relays.services.provisioning.state import SyncState, with_configuration

#: Seconds until a relay asks again for a name that another one is about to leave.
_PATIENCE = 3
#: A stranger's relay does not go away because we ask often.
_STRANGER_RETRY = 3600.0


class ComeBack(Exception):
    """The sync has to wait for that of another relay, or for zooid's reload."""

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self.seconds = seconds


def come_back() -> ComeBack:
    return ComeBack(_PATIENCE)


def private_host() -> str:
    """Return a host that nobody knows."""
    return f"x{secrets.token_hex(16)}.{settings.RELAY_DOMAIN}".lower()


def yield_to_holder(state: SyncState, error: HostTaken) -> str:
    """Return a private name for a relay that swaps names with others.

    Raises ComeBack if a relay of ours leaves the name, or else the error.
    """
    holder = _holder(state.host)
    if holder is None:
        if not _may_be_ours(state.relay.pk):
            error.retry_after = _STRANGER_RETRY
        raise error
    cycle = _cycle(state.relay.pk, holder)
    # In a cycle, one has to take a private name before the others can move.
    first = RelaySync.objects.get(pk=min(cycle)) if cycle else holder
    if first.pk == state.relay.pk and state.known:
        return private_host()
    _hurry(holder)
    if first.failures:
        raise error
    raise come_back()


def _holder(host: str) -> RelaySync | None:
    """Return the sync of the relay that has a host at zooid and has to leave it."""
    sync: RelaySync | None = RelaySync.objects.filter(host=host).first()
    return None if sync is None or _wanted_host(sync) == host else sync


def _may_be_ours(relay_id: UUID) -> bool:
    """Return whether a relay of ours may have the name by a write without an answer."""
    unknown = RelaySync.objects.exclude(pk=relay_id).exclude(sent="")
    return bool(unknown.exists())


def _wanted_host(sync: RelaySync) -> str:
    relays = with_configuration(Relay.objects.filter(pk=sync.pk))
    try:
        wanted = desired(relays.get())
    except CaravelError:
        return sync.host  # It will not be sent, so it stays where it is.
    return str(wanted["host"]) if wanted else ""


def _cycle(relay_id: UUID, holder: RelaySync) -> list[UUID]:
    """Return the relays of a cycle in which each has the name of the next one."""
    seen = [relay_id]
    following: RelaySync | None = holder
    while following is not None and following.pk not in seen:
        seen.append(following.pk)
        following = _holder(_wanted_host(following))
    is_closed = following is not None and following.pk == relay_id
    return seen if is_closed else []


def _hurry(holder: RelaySync) -> None:
    """Have the relay that leaves a name synced at once."""
    if not holder.is_enqueued(timezone.now()):
        mark_stale(relay_id=holder.pk)
