"""System checks of zooid's and LiveKit's settings."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connection

from caravel.core.exceptions import CaravelError
from relays.clients.zooid import Zooid
from relays.models import Plan


@register
def check_livekit(**kwargs: Any) -> list[CheckMessage]:
    """Require a key for LIVEKIT_URL: zooid offers no voice rooms without one."""
    missing = [
        name
        for name in ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET")
        if settings.LIVEKIT_URL and not getattr(settings, name)
    ]
    return [
        Error(f"{name} is required with LIVEKIT_URL.", id="relays.E001")
        for name in missing
    ]


@register(Tags.database)
def check_plans(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn of plans that include what no relay can get."""
    tables = connection.introspection.table_names
    if settings.LIVEKIT_URL or not databases or Plan._meta.db_table not in tables():
        return []
    names = ", ".join(plan.name for plan in Plan.objects.filter(livekit=True))
    text = (
        f"LIVEKIT_URL is not set, but LiveKit is part of {names}: set it, or take it "
        "out of the plan."
    )
    return [Warning(text, id="relays.W001")] if names else []


@register(Tags.security, deploy=True)
def check_zooid_is_private(**kwargs: Any) -> list[CheckMessage]:
    """Warn if others could read what zooid is sent."""
    if not _is_public_http(settings.ZOOID_API_URL):
        return []
    text = "ZOOID_API_URL is http: the secret keys of new relays pass unencrypted."
    return [Warning(text, id="relays.W002")]


# Only with `--database`: like the database, zooid is not there when an image is built.
@register(Tags.database, deploy=True)
def check_zooid(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn of a zooid that does not accept our requests, with what to change."""
    if not databases:
        return []
    try:
        Zooid().list_members(uuid4())
    except CaravelError as exc:
        return [Warning(f"zooid: {exc.message}", id="relays.W003")]
    return []


def _is_public_http(url: str) -> bool:
    """Return whether plain HTTP leaves the machine and its private network."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_public = ip_address(host).is_global
    except ValueError:
        # A name without a dot, such as that of a container, is a private one.
        is_public = "." in host
    return parts.scheme == "http" and is_public
