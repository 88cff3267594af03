"""Relays that a tenant had on a plan in the past, from the activity log."""

from datetime import datetime, timedelta

from django.conf import settings

from relays.models import Relay
from tenants.models import Activity

#: A change is billed after it was made, but at Stripe's time, in whole seconds.
_CLOCK_SKEW = timedelta(seconds=5)
#: Changes to look at. If a tenant has made more, no relay is named.
_MAX_CHANGES = 2_000
#: Activities that may change whether a relay is billed. Others are many, and some have
#: another snapshot.
_TYPES = (
    Activity.Type.CREATE_RELAY,
    Activity.Type.CHANGE_RELAY_PLAN,
    Activity.Type.ACTIVATE_RELAY,
    Activity.Type.DEACTIVATE_RELAY,
    Activity.Type.MARK_RELAY_DELINQUENT,
    Activity.Type.REACTIVATE_RELAY,
    Activity.Type.DELETE_RELAY,
)
#: The time of a change, the relay's id, and its plan and status since then.
_Change = tuple[datetime, str, str, str]


class RelayHistory:
    """Changes of a tenant's relays until a time; of billed relays only."""

    def __init__(self, tenant_id: str, until: datetime) -> None:
        self._changes = _changes(tenant_id, until + _CLOCK_SKEW)
        relays = Relay.objects.filter(tenant=tenant_id)
        self._names = {
            str(pk): name for pk, name in relays.values_list("pk", "subdomain")
        }

    def billed(self, *, plan_id: str, quantity: int, at: datetime) -> list[str]:
        """Return the subdomains of the relays that a line of an invoice is for.

        They are the last that were active on the plan at that time, or before it, and
        as many as were billed: unused time is of those from before the change. Returns
        none if it never had as many.
        """
        active: set[str] = set()
        found: set[str] = set()
        for changed_at, relay_id, plan, status in self._changes:
            if changed_at > at + _CLOCK_SKEW:
                break
            is_active = status == Relay.Status.ACTIVE and plan == plan_id
            (active.add if is_active else active.discard)(relay_id)
            if len(active) == quantity:
                found = set(active)
        return sorted(self._names[each] for each in found if each in self._names)


def _changes(tenant_id: str, until: datetime) -> list[_Change]:
    rows = Activity.objects.filter(
        tenant=tenant_id,
        subject_type="relay",
        type__in=_TYPES,
        created_at__lte=until,
    )
    changes = rows.order_by("pk").values_list(
        "created_at", "subject_id", "snapshot__plan", "snapshot__status"
    )
    found = list(changes[: _MAX_CHANGES + 1])
    if len(found) > _MAX_CHANGES:
        return []
    if settings.BILLING_SERVED_RELAYS_ONLY:
        found = _from_first_proofs(found, tenant_id)
    return [each for each in found if each[0] <= until]


def _from_first_proofs(changes: list[_Change], tenant_id: str) -> list[_Change]:
    """Return changes from the first proof of each relay on, with its state then."""
    served = Relay.objects.filter(tenant=tenant_id).exclude(first_served_at=None)
    proofs = {str(pk): at for pk, at in served.values_list("pk", "first_served_at")}
    states: dict[str, _Change] = {}
    later: list[_Change] = []
    for change in changes:
        changed_at, relay_id, plan, status = change
        proven_at = proofs.get(relay_id)
        if proven_at is None:
            continue
        if changed_at <= proven_at:
            states[relay_id] = (proven_at, relay_id, plan, status)
        else:
            later.append(change)
    return sorted([*states.values(), *later], key=lambda change: change[0])
