from collections.abc import Sequence
from uuid import UUID

from celery import shared_task
from django.utils import timezone

from relays.exceptions import UnknownRelay, ZooidRefused, ZooidUnavailable
from relays.models import RelayExport, RelaySync
from relays.models.syncs import SERVED_PROBE_INTERVAL
from relays.services import members
from relays.services.end_of_life import review
from relays.services.exports import endings, export
from relays.services.provisioning import probes, queue, sync


@shared_task(queue="zooid")
def sync_relay(relay_id: str) -> None:
    sync.sync_relay(relay_id=UUID(relay_id))


@shared_task
def sweep_relay_syncs() -> None:
    now = timezone.now()
    queue.try_server_again(now=now)
    claimed = RelaySync.objects.stale().claim(now=now)
    sync_relay.delay_many([str(relay_id) for relay_id in claimed])


@shared_task
def probe_relays() -> None:
    for relay_ids in probes.claim_due(now=timezone.now()):
        # After that they are due again: of a server that hangs, none pile up.
        probe_relay_batch.apply_async(
            ([str(relay_id) for relay_id in relay_ids],),
            expires=SERVED_PROBE_INTERVAL.total_seconds(),
        )


@shared_task(queue="zooid")
def probe_relay_batch(relay_ids: Sequence[str]) -> None:
    probes.probe_relays(relay_ids=[UUID(relay_id) for relay_id in relay_ids])


@shared_task
def count_people() -> None:
    count_people_of_relay.delay_many(
        [str(pk) for pk in members.due_counts(now=timezone.now())]
    )


# Expected while zooid is away, or if the relay is deleted meanwhile. The next sweep
# finds it again if it is still due.
@shared_task(queue="zooid", throws=(ZooidUnavailable, ZooidRefused, UnknownRelay))
def count_people_of_relay(relay_id: str) -> None:
    members.count_people(relay_id=UUID(relay_id))


@shared_task
def review_suspended_relays() -> None:
    review_suspended_relay.delay_many(
        [str(pk) for pk in review.due_relays(now=timezone.now())]
    )


@shared_task
def review_suspended_relay(relay_id: str) -> None:
    review.review_relay(relay_id=UUID(relay_id), now=timezone.now())


@shared_task(queue="zooid")
def export_relay(export_id: int) -> None:
    export.export_relay(export_id=export_id)


@shared_task
def sweep_relay_exports() -> None:
    export_relay.delay_many(RelayExport.objects.unfinished().claim(now=timezone.now()))
    endings.expire_exports(now=timezone.now())
