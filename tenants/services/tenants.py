"""Creation and changes of tenants."""

from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_network
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from limits import RateLimitItem, parse

from caravel.core.exceptions import UnknownField
from caravel.core.rate_limit import delay_after_hit
from caravel.core.validation import validate_fields
from caravel.nostr import parse_pubkey
from tenants.exceptions import EmailLinkInvalid, NewTenantQuota
from tenants.models import Activity, Tenant
from tenants.services.activities import record_activity
from tenants.services.confirmations import request_confirmation
from tenants.services.email_links import (
    is_subject,
    pubkey_of_subject,
    read_confirmation,
    read_stop,
)

_SWITCHES = {"autopay_paused", "dunning_exempt", "payment_notices"}
#: Fields that `update_tenant` can set.
EDITABLE = ("email", "display_name", "time_zone", *sorted(_SWITCHES))

#: Networks that one site may have: https://www.rfc-editor.org/rfc/rfc6177
_SITE_PREFIX = 48
#: How many times as many accounts a site may open as one of its networks.
_SITE_FACTOR = 10

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
    if Tenant.objects.filter(pk=parse_pubkey(pubkey)).exists():
        return get_or_create_tenant(pubkey=pubkey)
    for rate, network in _account_rates(address):
        if seconds := delay_after_hit(rate, "new tenants", network):
            raise NewTenantQuota(
                "Too many accounts were opened from your network. Try again later, or "
                "ask support to open yours.",
                retry_after=seconds,
            )
    return get_or_create_tenant(pubkey=pubkey)


def _account_rates(address: str) -> Iterator[tuple[RateLimitItem, str]]:
    """Yield the rates at which accounts are opened from an address and its site."""
    rate = parse(settings.NEW_TENANT_RATE)
    yield rate, address
    if ":" in address:
        # Whoever has one IPv6 network of 64 bits may have all of those of a site.
        site = ip_network(address).supernet(new_prefix=_SITE_PREFIX)
        yield type(rate)(rate.amount * _SITE_FACTOR, rate.multiples), str(site)


def update_tenant(*, pubkey: str, **fields: Any) -> Tenant:
    """Set the given EDITABLE fields, and log the values of switches.

    An e-mail address that is not confirmed yet is sent a link; another address has to
    be confirmed anew.
    Raises Tenant.DoesNotExist, UnknownField, or Invalid with the field in its code.
    """
    if unknown := fields.keys() - set(EDITABLE):
        raise UnknownField(f"A tenant has no field {', '.join(unknown)} to set.")
    with transaction.atomic():
        tenant = Tenant.objects.lock(pubkey)
        old_email = tenant.email
        for name, value in fields.items():
            setattr(tenant, name, value)
        validate_fields(tenant, fields)
        columns = [*fields]
        if tenant.email != old_email:
            tenant.email_confirmed_at = None
            columns.append("email_confirmed_at")
        tenant.save(update_fields=columns)
        if fields.get("email") and not tenant.email_confirmed:
            request_confirmation(tenant)
        switches = {name: str(fields[name]) for name in fields.keys() & _SWITCHES}
        _record(tenant, Activity.Type.UPDATE_TENANT, switches)
    return tenant


def confirm_email(*, token: str) -> Tenant:
    """Record that the owner of a tenant's address has followed the link to it.

    Raises EmailLinkInvalid, also for an address that the tenant has changed since, or
    EmailLinkExpired.
    """
    subject = read_confirmation(token)
    with transaction.atomic():
        tenant = Tenant.objects.lock(pubkey_of_subject(subject))
        _require_subject(subject, tenant)
        if not tenant.email_confirmed:
            tenant.email_confirmed_at = timezone.now()
            tenant.save(update_fields=["email_confirmed_at"])
            _record(tenant, Activity.Type.UPDATE_TENANT, {"email": "confirmed"})
    return tenant


def tenant_to_confirm(*, token: str) -> Tenant:
    """Return the tenant of a confirmation link. Raises as `confirm_email` does."""
    subject = read_confirmation(token)
    tenant = Tenant.objects.get(pk=pubkey_of_subject(subject))
    _require_subject(subject, tenant)
    return tenant


def stop_emails(*, token: str) -> None:
    """Remove the address of a link from its tenant; no e-mail is sent to it any more.

    Does nothing if the tenant has another address by now. Raises EmailLinkInvalid.
    """
    subject = read_stop(token)
    with transaction.atomic():
        tenant = Tenant.objects.lock(pubkey_of_subject(subject))
        if not is_subject(subject, tenant):
            return
        tenant.email, tenant.email_confirmed_at = "", None
        tenant.save(update_fields=["email", "email_confirmed_at"])
        _record(tenant, Activity.Type.UPDATE_TENANT, {"email": "unsubscribed"})


def _require_subject(subject: str, tenant: Tenant) -> None:
    if not is_subject(subject, tenant):
        raise EmailLinkInvalid("This link is for an address that was changed since.")


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
