"""Texts of notices: one template per kind, in the `templates/notices` of an app."""

from collections.abc import Mapping
from datetime import datetime

from django.template import Engine

from caravel.core.seller import get_seller
from tenants.models import Tenant

_MAX_REASON_LENGTH = 240
# Notices are plain text, so HTML escaping would garble them.
_ENGINE = Engine(app_dirs=True, autoescape=False)


def render(kind: str, context: Mapping[str, str]) -> tuple[str, str]:
    """Return the title (first line of the template) and the text of a notice.

    The text ends with the seller's name, address and contact.
    """
    rendered = _ENGINE.render_to_string(f"notices/{kind}.txt", {**context})
    title, _, text = rendered.strip().partition("\n")
    return title, f"{text.strip()}\n\n{get_seller().signature}"


def shorten(text: str) -> str:
    """Return a reason as one line of at most 240 characters."""
    line = " ".join(text.split())
    if len(line) <= _MAX_REASON_LENGTH:
        return line
    return line[: _MAX_REASON_LENGTH - 1].rstrip() + "…"


def format_date(time: datetime, tenant: Tenant) -> str:
    """Return the date in the tenant's time zone."""
    return f"{time.astimezone(tenant.tzinfo):%-d %B %Y}"


def format_time(time: datetime, tenant: Tenant) -> str:
    """Return a time in the tenant's time zone, with its offset: "…, 14:30 UTC+1"."""
    local = time.astimezone(tenant.tzinfo)
    return f"{local:%-d %B %Y, %H:%M} UTC{_offset(local)}"


def _offset(local: datetime) -> str:
    # Not the abbreviation: several zones are called IST.
    text = f"{local:%z}"
    hours = f"{text[0]}{int(text[1:3])}"
    minutes = f":{text[3:5]}" if text[3:5] != "00" else ""
    return "" if text == "+0000" else hours + minutes
