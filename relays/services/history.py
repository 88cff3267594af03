"""Relays that a tenant had on a plan in the past, from the activity log."""

from datetime import datetime, timedelta

from django.conf import settings

from relays.models import Relay
from tenants.models import Activity

#: A change is billed after it was made, but at Stripe's time, in whole seconds.
_CLOCK_SKEW = timedelta(seconds=5)
#: Changes to look at. If a tenant has made more, no relay is named.
_MAX_CHANGES = 4_000
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
    Activity.Type.COMPLETE_RELAY_SYNC,
)
#: The time of a change, the relay's id, and its plan and status since then; not those
#: from before its first proof.
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
    if settings.BILLING_SERVED_RELAYS_ONLY:
        # Activities of earlier versions do not tell: their relays were billed unseen.
        rows = rows.exclude(snapshot__contains={"served": "False"})
    changes = rows.order_by("pk").values_list(
        "created_at", "subject_id", "snapshot__plan", "snapshot__status"
    )
    found = list(changes[: _MAX_CHANGES + 1])
    return found if len(found) <= _MAX_CHANGES else []
