"""Creation and changes of tenants."""

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from limits import parse

from caravel.core.exceptions import UnknownField
from caravel.core.rate_limit import delay_after_hit
from caravel.core.validation import validate_fields
from caravel.nostr import parse_pubkey
from tenants.exceptions import NewTenantQuota
from tenants.models import Activity, Tenant
from tenants.services.activities import record_activity

_SWITCHES = {"autopay_paused", "dunning_exempt"}
#: Fields that `update_tenant` can set.
EDITABLE = ("email", "display_name", *sorted(_SWITCHES))

_WALLET = ("nwc_url", "nwc_error", "wallet_alias", "wallet_hosts")


def get_or_create_tenant(*, pubkey: str) -> tuple[Tenant, bool]:
    """Return the tenant of a public key (hex or npub), and whether it was created.

    Raises InvalidPubkey.
    """
    with transaction.atomic():
        # get_or_create() also handles a concurrent insert: one tenant, one activity.
        tenant, created = Tenant.objects.get_or_create(pubkey=parse_pubkey(pubkey))
        if created:
            _record(tenant, Activity.Type.CREATE_TENANT)
    return tenant, created


def open_account(*, pubkey: str, address: str) -> tuple[Tenant, bool]:
    """Like `get_or_create_tenant`, for a caller at an address.

    Raises NewTenantQuota: an address can open only so many accounts. A key costs
    nothing, so whatever is limited per account needs this limit, too.
    """
    rate = parse(settings.NEW_TENANT_RATE)
    if Tenant.objects.filter(pk=parse_pubkey(pubkey)).exists():
        return get_or_create_tenant(pubkey=pubkey)
    if seconds := delay_after_hit(rate, "new tenants", address):
        raise NewTenantQuota(
            "Too many accounts were opened from your network. Try again later, or ask "
            "support to open yours.",
            retry_after=seconds,
        )
    return get_or_create_tenant(pubkey=pubkey)


def update_tenant(*, pubkey: str, **fields: Any) -> Tenant:
    """Set the given EDITABLE fields, and log the values of switches.

    Raises Tenant.DoesNotExist, UnknownField, or Invalid with the field in its code.
    """
    if unknown := fields.keys() - set(EDITABLE):
        raise UnknownField(f"A tenant has no field {', '.join(unknown)} to set.")
    with transaction.atomic():
        tenant = Tenant.objects.lock(pubkey)
        for name, value in fields.items():
            setattr(tenant, name, value)
        validate_fields(tenant, fields)
        tenant.save(update_fields=[*fields])
        switches = {name: str(fields[name]) for name in fields.keys() & _SWITCHES}
        _record(tenant, Activity.Type.UPDATE_TENANT, switches)
    return tenant


def set_wallet(
    *, pubkey: str, nwc_url: str, alias: str = "", hosts: str = ""
) -> Tenant:
    """Set a tenant's wallet, or remove it with ""; clears the wallet's error.

    The caller has checked the NWC URI. `alias` and `hosts` are for display. Raises
    Tenant.DoesNotExist.
    """
    with transaction.atomic():
        tenant = Tenant.objects.lock(pubkey)
        tenant.nwc_url = nwc_url
        tenant.nwc_error = ""
        tenant.wallet_alias, tenant.wallet_hosts = alias[:100], hosts[:240]
        tenant.save(update_fields=list(_WALLET))
        # The log never contains the NWC URI, which is a secret.
        wallet = "connected" if nwc_url else "disconnected"
        _record(tenant, Activity.Type.UPDATE_TENANT, {"wallet": wallet})
    return tenant


def close_tenant(*, pubkey: str) -> bool:
    """Close a tenant's account; returns False if it is already closed.

    Raises Tenant.DoesNotExist.
    """
    # A tenant is never deleted: its payments must stay on record.
    return _set_closed(pubkey, timezone.now(), Activity.Type.CLOSE_TENANT)


def reopen_tenant(*, pubkey: str) -> bool:
    """Reopen a closed account; returns False if it is not closed."""
    return _set_closed(pubkey, None, Activity.Type.REOPEN_TENANT)


def _set_closed(pubkey: str, closed_at: datetime | None, type: Activity.Type) -> bool:
    with transaction.atomic():
        tenant = Tenant.objects.lock(pubkey)
        if (tenant.closed_at is None) == (closed_at is None):
            return False
        tenant.closed_at = closed_at
        tenant.save(update_fields=["closed_at"])
        _record(tenant, type)
    return True


def _record(
    tenant: Tenant, type: Activity.Type, snapshot: dict[str, str] | None = None
) -> None:
    record_activity(
        tenant_id=tenant.pk,
        type=type,
        subject_type="tenant",
        subject_id=tenant.pk,
        snapshot=snapshot,
    )
