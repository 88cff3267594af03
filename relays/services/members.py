"""Members of relays, read from zooid, which stores them."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from caravel.nostr import pubkey_of
from relays.clients.zooid import Zooid
from relays.exceptions import MembersExceedPlan, MembersNotCounted, UnknownRelay
from relays.models import Plan, Relay, RelayQuerySet, RelaySync
from relays.services import over_limit
from relays.services.locks import lock_relay
from relays.services.plans import get_plan

#: Age up to which a count decides about a change of plan: its preview at Stripe, and a
#: transaction before it, may take a while.
_MAX_AGE = timedelta(minutes=2)
_INTERVAL = timedelta(days=1)
#: Counts per sweep, which runs hourly.
_MAX_COUNTS = 10_000


def list_members(*, relay_id: UUID) -> list[str]:
    """Return the public keys of a relay's members, sorted, in hex.

    They may change at any moment. Raises UnknownRelay, ZooidUnavailable or
    ZooidRefused.
    """
    if not Relay.objects.existing().filter(pk=relay_id).exists():
        raise UnknownRelay("There is no such relay.")
    return sorted({*Zooid().list_members(relay_id)})


def count_for_plan(*, relay_id: UUID, plan_id: str) -> None:
    """Count the relay's people if the plan allows fewer than its present one.

    Call it before the transaction that changes the plan. Raises UnknownPlan,
    UnknownRelay, ZooidUnavailable or ZooidRefused.
    """
    plan = get_plan(plan_id)
    relay = _get(relay_id)
    if plan.is_smaller_than(relay.plan) and _is_provisioned(relay):
        _count(relay)


def require_fit(relay: Relay, plan: Plan) -> None:
    """Raise MembersExceedPlan if a smaller plan is too small for the relay.

    The caller has locked the relay, and called `count_for_plan` before. Raises
    MembersNotCounted if another change has made the count necessary since.
    """
    if not plan.is_smaller_than(relay.plan) or not _is_provisioned(relay):
        return
    counted_at = relay.people_counted_at
    if counted_at is None or counted_at < timezone.now() - _MAX_AGE:
        raise MembersNotCounted("The relay's members were not counted in time.")
    people, limit = relay.people or 0, plan.members
    if limit is not None and people > limit:
        raise MembersExceedPlan(people=people, limit=limit)


def due_counts(*, now: datetime) -> list[UUID]:
    """Return relays whose people were not counted for a day, longest ago first.

    Also those for which the limit of their plan was changed.
    """
    order = F("people_counted_at").asc(nulls_first=True)
    return list(_due(now).order_by(order).values_list("pk", flat=True)[:_MAX_COUNTS])


def count_people(*, relay_id: UUID) -> None:
    """Count a relay's people if that is due, and report a relay over its limit.

    Raises ZooidUnavailable or ZooidRefused: it stays due.
    """
    relay = _due(timezone.now()).filter(pk=relay_id).first()
    if relay is not None:
        _count(relay)


def _get(relay_id: UUID) -> Relay:
    relays = Relay.objects.existing().select_related("plan")
    relay = relays.filter(pk=relay_id).first()
    if relay is None:
        raise UnknownRelay("There is no such relay.")
    return relay


def _due(now: datetime) -> RelayQuerySet:
    # Nobody can join a relay that is off.
    running = Relay.objects.active().exclude(first_served_at=None)
    stale = Q(people_counted_at=None) | Q(people_counted_at__lte=now - _INTERVAL)
    begins = Q(pk=None)
    # Plan by plan: an index has the people of a plan, but not its limit.
    for plan_id, limit in Plan.objects.values_list("pk", "members"):
        if limit is not None:
            begins |= Q(plan=plan_id, people__gt=limit, over_limit_since=None)
    fits = ~Q(people__gt=F("plan__members"))
    ends = Q(fits, over_limit_since__isnull=False)
    return running.filter(stale | begins | ends)


def _is_provisioned(relay: Relay) -> bool:
    """Return whether zooid may have the relay; if not, it has no members."""
    if relay.first_served_at is not None:
        return True
    sync = RelaySync.objects.filter(pk=relay.pk).first()
    return sync is not None and (sync.acknowledged_at is not None or bool(sync.sent))


def _count(relay: Relay) -> None:
    people = _people(relay, Zooid().list_members(relay.pk))
    with transaction.atomic():
        over_limit.record_people(lock_relay(relay.pk), people)


def _people(relay: Relay, members: Iterable[str]) -> int:
    """Return the number of members without a role; the relay itself is one."""
    # https://gitea.coracle.social/coracle/zooid/pulls/6 lists them all.
    own_key = pubkey_of(relay.secret.reveal())
    others = {own_key, relay.tenant_id, *relay.admins, *relay.moderators}
    return len({*members} - others)
