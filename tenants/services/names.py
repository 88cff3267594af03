"""Names for tenants who have given none: those of their Nostr profiles."""

import json
from collections.abc import Mapping

from django.db import transaction

from tenants.models import Tenant
from tenants.services.nostr_directory import fetch_latest_event
from tenants.services.nostr_identity import PROFILE

_LONGEST = 100
#: How many tenants are looked up in one go, so that no indexer is overrun.
MOST = 1000


def tenants_without_name() -> list[str]:
    """Return public keys of tenants without a name, others each time."""
    nameless = Tenant.objects.filter(display_name="").order_by("?")
    return list(nameless.values_list("pk", flat=True)[:MOST])


def fill_in_name(*, tenant_id: str) -> str:
    """Give a tenant without a name that of its profile; return the name it has then.

    A name that somebody has set is never changed.
    """
    tenant = Tenant.objects.get(pk=tenant_id)
    if tenant.display_name:
        return tenant.display_name
    profile = fetch_latest_event(tenant_id, PROFILE).event
    name = profile_name(profile.content) if profile else ""
    with transaction.atomic():
        tenant = Tenant.objects.select_for_update().get(pk=tenant_id)
        if name and not tenant.display_name:
            tenant.display_name = name
            tenant.save(update_fields=["display_name"])
    return tenant.display_name


def profile_name(content: str) -> str:
    """Return the name in a profile as one line of printable text, or nothing."""
    try:
        profile = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(profile, Mapping):
        return ""
    names = (_plain(profile.get(key)) for key in ("display_name", "name"))
    return next(filter(None, names), "")


def _plain(name: object) -> str:
    """Return a name without what would not show, or would show something else."""
    if not isinstance(name, str):
        return ""
    line = " ".join(name.split())
    return "".join(c for c in line if c.isprintable()).strip()[:_LONGEST].strip()
