"""Names of tenants without one, from their Nostr profiles (kind 0)."""

import json
import secrets
from collections.abc import Mapping

from django.db import transaction

from tenants.models import Tenant, TenantQuerySet
from tenants.services.nostr_directory import fetch_latest_event
from tenants.services.nostr_identity import PROFILE

_MAX_LENGTH = 100
#: Maximum number of tenants per run, to avoid overloading the indexers.
MAX_LOOKUPS = 1000


def tenants_without_name() -> list[str]:
    """Return public keys of tenants without a name, beginning with a random one."""
    # Random, so that the limit does not exclude the same tenants in each run. Keys are
    # spread evenly, and an index is read in their order.
    nameless = Tenant.objects.filter(display_name="").order_by("pk")
    start = secrets.token_hex(32)
    later = _keys(nameless.filter(pk__gte=start), MAX_LOOKUPS)
    return later + _keys(nameless.filter(pk__lt=start), MAX_LOOKUPS - len(later))


def _keys(tenants: TenantQuerySet, limit: int) -> list[str]:
    return list(tenants.values_list("pk", flat=True)[:limit])


def fill_in_name(*, tenant_id: str) -> str:
    """Set the name of a tenant without one from its profile; return the name."""
    tenant = Tenant.objects.get(pk=tenant_id)
    if tenant.display_name:
        return tenant.display_name
    profile = fetch_latest_event(tenant_id, PROFILE).event
    name = profile_name(profile.content) if profile else ""
    with transaction.atomic():
        # Read again under the lock: the name may have been set during the lookup.
        tenant = Tenant.objects.lock(tenant_id)
        if name and not tenant.display_name:
            tenant.display_name = name
            tenant.save(update_fields=["display_name"])
    return tenant.display_name


def profile_name(content: str) -> str:
    """Return the name in a profile as one line of printable text, or ""."""
    try:
        profile = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(profile, Mapping):
        return ""
    names = (_printable(profile.get(key)) for key in ("display_name", "name"))
    return next(filter(None, names), "")


def _printable(name: object) -> str:
    if not isinstance(name, str):
        return ""
    line = " ".join(name.split())
    # Also removes overrides of the text direction such as U+202E, which would make a
    # name look like another.
    return "".join(c for c in line if c.isprintable()).strip()[:_MAX_LENGTH].strip()
