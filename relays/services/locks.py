"""Locks of relays and their tenants."""

from uuid import UUID

from relays.exceptions import UnknownRelay
from relays.models import Relay
from tenants.exceptions import UnknownTenant
from tenants.models import Tenant


def lock_tenant(tenant_id: str) -> Tenant:
    """Lock a tenant until the transaction ends. Raises UnknownTenant."""
    # Lock order: the tenant before its relays, so that two changes cannot deadlock.
    try:
        return Tenant.objects.lock(tenant_id)
    except Tenant.DoesNotExist as exc:
        raise UnknownTenant("There is no such tenant.") from exc


def lock_relay(relay_id: UUID) -> Relay:
    """Lock a relay and its tenant. Raises UnknownRelay, also for a deleted relay."""
    tenant_id = (
        Relay.objects.filter(pk=relay_id).values_list("tenant", flat=True).first()
    )
    if tenant_id is None:
        raise UnknownRelay("There is no such relay.")
    tenant = lock_tenant(tenant_id)
    # No key: the second update of a row that refers to the relay checks its key, and
    # must not wait for whoever waits for that row.
    relays = Relay.objects.select_related("plan").select_for_update(
        of=("self",), no_key=True
    )
    relay = relays.existing().filter(pk=relay_id).first()
    # Deleted, perhaps by a transaction that held the tenant until now.
    if relay is None:
        raise UnknownRelay("There is no such relay.")
    # The locked instance, whose overdue and closed dates are up to date.
    relay.tenant = tenant
    return relay
